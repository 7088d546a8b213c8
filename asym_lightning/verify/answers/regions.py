"""Sets of real numbers: intervals, inequalities of one variable, unions."""

from fractions import Fraction
from typing import Any

import sympy

from asym_lightning.verify.answers import forms as f
from asym_lightning.verify.answers.arithmetic import rational

_FLIPPED = {"<": ">", ">": "<", "<=": ">=", ">=": "<=", "!=": "!="}
_MAX_PARTS = 12


def _end(form: Any) -> Any:
    """Return an end of an interval as a real number or an infinity, else ``None``."""
    if not isinstance(form, f.Value) or form.base or form.bound or form.percent:
        return None
    value = rational(form.value) if isinstance(form.value, Fraction) else form.value
    if value in (sympy.oo, -sympy.oo):
        return value
    return value if not value.free_symbols and value.is_extended_real else None


def _below(lower: Any, upper: Any) -> bool | None:
    """Return whether one real number is below another, or ``None`` where that is not known."""
    answer = sympy.StrictLessThan(lower, upper)
    return bool(answer) if answer in (sympy.true, sympy.false) else None


def interval(row: f.Row) -> Any:
    """Return the interval that two parts in brackets are, or ``None``."""
    if len(row.parts) != 2 or row.opening not in "([]" or row.closing not in ")][":
        return None
    lower, upper = _end(row.parts[0]), _end(row.parts[1])
    if lower is None or upper is None or not _below(lower, upper):
        return None
    opens, closes = row.opening != "[", row.closing != "]"
    return sympy.Interval(lower, upper, opens, closes)


def region_of(form: Any) -> Any:
    """Return the set of real numbers that a form is, or ``None``."""
    if isinstance(form, f.Region):
        return form.set
    if isinstance(form, f.Row):
        return interval(form)
    if isinstance(form, f.Several) and form.braces and len(form.parts) <= _MAX_PARTS:
        ends = [_end(part) for part in form.parts]
        if any(end is None or not end.is_finite for end in ends):
            return None
        return sympy.FiniteSet(*ends)
    return None


def joined(found: list[f.Region], word: str) -> f.Region | None:
    """Return the union ("or") or the intersection ("and") of conditions on the same variable."""
    names = {form.name for form in found}
    if len(names) != 1 or len(found) > _MAX_PARTS:
        return None
    sets = [form.set for form in found]
    result = sympy.Union(*sets) if word == "or" else sympy.Intersection(*sets)
    return f.Region(result, names.pop())


def _half(end: Any, sign: str) -> Any:
    """Return the numbers x with ``x sign end``."""
    if sign == "!=":
        return sympy.Complement(sympy.S.Reals, sympy.FiniteSet(end))
    if sign in ("<", "<="):
        return sympy.Interval(-sympy.oo, end, True, sign == "<")
    return sympy.Interval(end, sympy.oo, sign == ">", True)


def solve(sides: list[Any], signs: list[str]) -> f.Region | None:
    """Return the set that an inequality or a chain of two describes.

    One side is a variable alone and the others are real numbers; ``None`` for all else.
    """
    if len(sides) not in (2, 3):
        return None
    at = next((i for i, side in enumerate(sides) if side.is_Symbol), -1)
    others = [side for i, side in enumerate(sides) if i != at]
    if at < 0 or any(side.free_symbols or not side.is_extended_real for side in others):
        return None
    name = str(sides[at])
    if len(sides) == 2:
        sign = signs[0] if at == 0 else _FLIPPED[signs[0]]
        return f.Region(_half(others[0], sign), name)
    if at != 1 or "!=" in signs or {sign[0] for sign in signs} not in ({"<"}, {">"}):
        return None
    lower = _half(sides[0], _FLIPPED[signs[0]])
    return f.Region(sympy.Intersection(lower, _half(sides[2], signs[1])), name)
