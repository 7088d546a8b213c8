"""Two numbers or expressions with what stands beside them, compared."""

from fractions import Fraction
from typing import Any

import sympy

from asym_lightning.verify.answers import forms as f
from asym_lightning.verify.answers.equal import equal
from asym_lightning.verify.answers.values import to_sympy

# Significant digits from which on a decimal stands for the value that it rounds.
FLOAT_DIGITS = 12
# Words before a number that may be missing on the other side.
LOOSE_BOUNDS = {"", "at least", "at most"}
_DOUBLE_DIGITS = 16
_EPSILON = Fraction(1, 2**52)


def as_value(expression: Any) -> f.Value:
    if expression.is_Rational:
        return f.Value(Fraction(int(expression.p), int(expression.q)))
    return f.Value(expression)


def within(value: Fraction, exact: Any, limit: Fraction) -> bool:
    """Return whether an exact real number lies within ``limit`` of a fraction."""
    if exact.is_Rational:
        return abs(Fraction(int(exact.p), int(exact.q)) - value) <= limit
    if exact.free_symbols or not exact.is_real:
        return False
    gap = abs(exact - to_sympy(value)).evalf(30, maxn=400)
    return bool(gap <= to_sympy(limit))


def same_values(answer: f.Value, reference: f.Value) -> bool:
    """Numbers and expressions with their units."""
    if answer.unit and reference.unit and answer.unit != reference.unit:
        return False
    if answer.bound != reference.bound and not {answer.bound, reference.bound} <= LOOSE_BOUNDS:
        return False
    if answer.bound and reference.bound and answer.bound != reference.bound:
        return False
    if answer.base or reference.base:
        return _same_numerals(answer, reference)
    if close(answer, reference):
        return True
    if answer.percent != reference.percent:
        value = answer if answer.percent else reference
        hundredth = f.Value(value.value / 100)
        return same_plain(*((hundredth, reference) if value is answer else (answer, hundredth)))
    if {answer.unit, reference.unit} == {"degree", ""}:
        return _is_radian(answer, reference)
    if len(answer.unit + reference.unit) == 1:  # 5 m may be five times m
        return equal(_with_variable(answer), _with_variable(reference))
    return False


def _with_variable(form: f.Value) -> Any:
    return to_sympy(form.value) * (sympy.Symbol(form.unit) if form.unit else 1)


def same_plain(answer: f.Value, reference: f.Value) -> bool:
    return equal(answer.value, reference.value)


def _is_radian(answer: f.Value, reference: f.Value) -> bool:
    """Return whether one of the values is the other one's angle in radians."""
    angle, other = (answer, reference) if answer.unit else (reference, answer)
    radian = to_sympy(angle.value) * sympy.pi / 180
    return not isinstance(other.value, Fraction) and equal(radian, other.value)


def _same_numerals(answer: f.Value, reference: f.Value) -> bool:
    """Numerals of a base: the same digits, and the same base where both name it."""
    if answer.base and reference.base:
        return answer.base == reference.base and answer.numeral == reference.numeral
    numeral, other = (answer, reference) if answer.base else (reference, answer)
    if not isinstance(other.value, Fraction) or other.digits:
        return False
    return numeral.numeral == str(other.value)


def close(answer: f.Value, reference: f.Value) -> bool:
    """Return whether two values are equal, or one is a decimal of floating point for the other.

    The other one is no whole number. Where it is no decimal itself, the decimal has at least 12
    significant digits and is off by less than one unit of its last place; else it has at least 16
    and is off by at most 2**-52 of the value.
    """
    for decimal, exact in ((answer, reference), (reference, answer)):
        if decimal.digits < FLOAT_DIGITS or not isinstance(decimal.value, Fraction):
            continue
        value = to_sympy(exact.value)
        if value.is_Integer or value.free_symbols or not value.is_real:
            continue
        limit = Fraction(0) if _terminates(value) else decimal.step * Fraction(999, 1000)
        if decimal.digits >= _DOUBLE_DIGITS > exact.digits:
            limit = max(limit, abs(decimal.value) * _EPSILON)
        if limit and within(decimal.value, value, limit):
            return True
    return equal(answer.value, reference.value)


def _terminates(value: Any) -> bool:
    """Return whether the digits of a number behind its decimal point end."""
    if not value.is_Rational:
        return False
    bottom = int(value.q)
    for factor in (2, 5):
        while bottom % factor == 0:
            bottom //= factor
    return bottom == 1
