"""Whether two expressions are equal: exactly, or not decided.

A difference that shows at high precision proves that two values differ. That they are equal is
proved by algebra alone, or by a precision beyond the bound within which a root of such an
expression can lie. No value is ever taken for zero because it is small.
"""

from fractions import Fraction
from functools import lru_cache
from itertools import product
from math import ceil, log2
from typing import Any

import sympy

from asym_lightning.verify.answers.arithmetic import rational
from asym_lightning.verify.answers.forms import TooLarge

_CACHED = 4096
_DIGITS = (20, 60)
_MOST_BITS = 20_000
# A longer expression with variables is not expanded.
_MOST_NODES = 400
_POINTS = (
    (3, 7), (11, 13), (17, 5), (23, 19), (29, 31), (37, 41), (43, 47), (53, 59), (61, 67), (71, 73),
)  # fmt: skip


def _evaluated(value: Any, digits: int) -> Any:
    """Return a complex number to that many digits, or ``None`` where sympy gives no such one."""
    found = value.evalf(digits, maxn=digits + 400)
    if not found.is_number or found.has(sympy.nan, sympy.zoo, sympy.oo, -sympy.oo):
        return None
    real, imaginary = found.as_real_imag()
    parts = (real, imaginary)
    return found if all(part.is_Float or part.is_Rational for part in parts) else None


def _differ_at(left: Any, other: Any, digits: int) -> bool | None:
    """Return whether two constants differ by more than their error at that precision.

    ``None`` where one of them cannot be evaluated.
    """
    first, second = _evaluated(left, digits), _evaluated(other, digits)
    if first is None or second is None:
        return None
    size = max(abs(first), abs(second))
    if size == 0:
        return None
    return bool(abs(first - second) > size * sympy.Float(10) ** (5 - digits))


def _size_of_root(value: Any) -> tuple[float, float, int]:
    """Return bits of ``u`` and ``l`` and the degree ``D`` of an expression of roots.

    A value that is not zero is at least ``1 / (u ** (D - 1) * l)`` (Burnikel, Funke, Mehlhorn,
    Schirra and Schmitt, 2001). Raises ``TooLarge`` for an expression of another kind.
    """
    if value.is_Rational:
        return log2(abs(int(value.p)) or 1), log2(int(value.q)), 1
    if value is sympy.I:
        return 0.0, 0.0, 2
    if value.is_Add or value.is_Mul:
        upper, lower, degree = _size_of_root(value.args[0])
        for part in value.args[1:]:
            u, below, d = _size_of_root(part)
            if value.is_Add:
                upper, lower = max(upper + below, u + lower) + 1, lower + below
            else:
                upper, lower = upper + u, lower + below
            degree *= d
        return upper, lower, degree
    if value.is_Pow and value.exp.is_Rational:
        upper, lower, degree = _size_of_root(value.base)
        if value.exp < 0:
            upper, lower = lower, upper
        times, root = abs(int(value.exp.p)), int(value.exp.q)
        upper, lower = upper * times, lower * times
        if root == 1:
            return upper, lower, degree
        if upper >= lower:
            return (upper + (root - 1) * lower) / root, lower, degree * root
        return upper, ((root - 1) * upper + lower) / root, degree * root
    raise TooLarge("a comparison of expressions that are not algebraic")


def _algebraic_zero(difference: Any) -> bool:
    """Return whether an expression of rational numbers and roots is zero; exact.

    Raises ``TooLarge`` where that takes too many digits, or for another kind of expression.
    """
    upper, lower, degree = _size_of_root(difference)
    bits = (degree - 1) * upper + lower
    if bits > _MOST_BITS:
        raise TooLarge(f"a comparison that needs {bits:.0f} bits")
    digits = ceil(bits * 0.302) + 15
    error = sympy.Float(10) ** -(ceil(bits * 0.302) + 5)
    # The terms are added in fixed precision: the error is far below the smallest value.
    largest = max(1, ceil(upper * 0.302))
    terms = sympy.Add.make_args(difference)
    total = sum((term.evalf(digits + largest) for term in terms), sympy.Float(0, digits + largest))
    return bool(abs(total) < error)


def _nodes(value: Any) -> int:
    count = 0
    for _ in sympy.preorder_traversal(value):
        count += 1
        if count > _MOST_NODES:
            break
    return count


def _vanishes(difference: Any) -> bool:
    """Return whether algebra shows that an expression is zero. ``False`` shows nothing."""
    if difference == 0 or difference.expand() == 0:
        return True
    if difference.has(sympy.exp) and difference.has(sympy.I):
        difference = difference.rewrite(sympy.cos)
        if difference.expand() == 0:
            return True
    together = sympy.together(difference)
    top = sympy.fraction(together)[0].expand()
    if top == 0:
        return True
    for rewrite in (sympy.cancel, sympy.radsimp, sympy.trigsimp, sympy.logcombine, sympy.simplify):
        try:
            if sympy.expand(rewrite(together)) == 0:
                return True
        except (NotImplementedError, sympy.PolynomialError, ValueError, TypeError, AttributeError):
            continue
    return False


def _points(symbols: list[Any]) -> list[dict[Any, Any]]:
    """Return three assignments of rational numbers to variables, the second with negative ones."""
    found = []
    for shift in range(3):
        point = {}
        for i, symbol in enumerate(symbols):
            top, bottom = _POINTS[(3 * i + shift) % len(_POINTS)]
            sign = -1 if shift == 1 else 1
            point[symbol] = sympy.Rational(sign * (top + i + shift), bottom)
        found.append(point)
    return found


@lru_cache(_CACHED)
def equal(left: Any, other: Any) -> bool:
    """Return whether two expressions are equal. Raises ``TooLarge`` where it is not decided."""
    if isinstance(left, Fraction) and isinstance(other, Fraction):
        return left == other
    left = rational(left) if isinstance(left, Fraction) else left
    other = rational(other) if isinstance(other, Fraction) else other
    if left == other:
        return True
    if left.is_Rational and other.is_Rational:
        return False
    if left.is_infinite or other.is_infinite:
        return False
    symbols = sorted(left.free_symbols | other.free_symbols, key=str)
    if left.atoms(sympy.core.function.AppliedUndef) != other.atoms(
        sympy.core.function.AppliedUndef
    ):
        return False
    if _nodes(left) > _MOST_NODES or _nodes(other) > _MOST_NODES:
        raise TooLarge("a comparison of expressions that are too long")
    return _equal_functions(left, other, symbols) if symbols else _equal_constants(left, other)


def _equal_functions(left: Any, other: Any, symbols: list[Any]) -> bool:
    undefined = left.atoms(sympy.core.function.AppliedUndef)
    names = {call: sympy.Dummy(str(call)) for call in undefined}
    left, other = left.xreplace(names), other.xreplace(names)
    symbols = sorted(left.free_symbols | other.free_symbols, key=str)
    for digits, point in product(_DIGITS, _points(symbols)):
        try:
            if _differ_at(left.xreplace(point), other.xreplace(point), digits):
                return False
        except (ValueError, TypeError, ZeroDivisionError, AttributeError):
            continue
    if _vanishes(left - other):
        return True
    raise TooLarge("expressions that agree at some points and are not shown to be equal")


def _equal_constants(left: Any, other: Any) -> bool:
    for digits in _DIGITS:
        if _differ_at(left, other, digits):
            return False
    difference = left - other
    if difference == 0 or difference.expand() == 0:
        return True
    try:
        return _algebraic_zero(difference)
    except TooLarge:
        pass
    if _vanishes(difference):
        return True
    if _differ_at(left, other, 400):
        return False
    raise TooLarge("constants that agree to 400 digits and are not shown to be equal")
