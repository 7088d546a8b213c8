"""Operations on sympy numbers whose results are bounded in size."""

from fractions import Fraction
from typing import Any

import sympy

from asym_lightning.verify.answers.forms import TooLarge
from asym_lightning.verify.answers.tokens import ParseError

# Largest number of bits of a number that is computed, and the largest argument of a factorial.
MAX_BITS = 60_000
MAX_FACTORIAL = 5000


def rational(value: Fraction) -> Any:
    return sympy.Rational(value.numerator, value.denominator)


def _bits(value: Any) -> int:
    return max(int(value.p).bit_length(), int(value.q).bit_length())


def _size(value: Any) -> float:
    """Return about the bits of the largest number within an expression."""
    return max((_bits(atom) for atom in value.atoms(sympy.Rational)), default=1)


def power(base: Any, exponent: Any) -> Any:
    """Return ``base ** exponent``. Raises ``TooLarge`` where the result would be huge."""
    if exponent.is_Rational:
        if base.is_Rational and base not in (0, 1, -1):
            if abs(exponent) * _bits(base) > MAX_BITS or exponent.q > 1000:
                raise TooLarge("a power of more than 60,000 bits")
        elif not base.is_Rational and (abs(exponent) > 10_000 or _size(base) > 10_000):
            raise TooLarge("a power that is too high")
        if base == 0 and exponent <= 0:
            raise ParseError("a power of zero that has no value")
    elif exponent.is_number and _size(exponent) > 2000:
        raise TooLarge("an exponent that is too large")
    return base**exponent


def quotient(top: Any, bottom: Any) -> Any:
    """Return ``top / bottom``. Raises ``ParseError`` for a zero below."""
    if bottom == 0:
        raise ParseError("a division by zero")
    return top / bottom


def factorial(value: Any) -> Any:
    if value.is_Integer:
        if value < 0:
            raise ParseError("the factorial of a negative number")
        if value > MAX_FACTORIAL:
            raise TooLarge("the factorial of a large number")
    return sympy.factorial(value)


def binomial(upper: Any, lower: Any) -> Any:
    if upper.is_Integer and lower.is_Integer and (abs(upper) > 20_000 or abs(lower) > 20_000):
        raise TooLarge("the binomial of large numbers")
    return sympy.binomial(upper, lower)


def whole_logarithm(value: Any, base: Any) -> Any:
    """Return the logarithm where it is a fraction such as 3 or 3/2, else ``None``."""
    base = sympy.Integer(base) if isinstance(base, int) else base
    if not (value.is_Rational and base.is_Rational):
        return None
    if value <= 0 or base <= 0 or base == 1 or _bits(value) > 2000:
        return None
    ratio = sympy.log(value).evalf(30) / sympy.log(base).evalf(30)
    for bottom in (1, 2, 3, 4, 5, 6):
        top = int(sympy.floor(ratio * bottom + sympy.Rational(1, 2)))
        if abs(top) < 5000 and value**bottom == base**top:
            return sympy.Rational(top, bottom)
    return None
