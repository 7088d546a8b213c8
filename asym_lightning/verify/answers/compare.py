"""Two parsed forms: equal, different, or not decided.

Every function takes the answer first and the reference second. What an answer has more than the
reference (names, units, words of a choice) is passed over; what it has less is passed over only
where the rule says so, and values beyond those that were asked for never are.
"""

import re
from fractions import Fraction
from typing import Any

import sympy

from asym_lightning.verify.answers import forms as f
from asym_lightning.verify.answers.equal import equal
from asym_lightning.verify.answers.regions import region_of
from asym_lightning.verify.answers.same_sets import same_relations, same_sets
from asym_lightning.verify.answers.same_values import as_value, same_values, within
from asym_lightning.verify.answers.values import to_sympy


def same(answer: Any, reference: Any) -> bool:
    """Return whether an answer has the value of the reference.

    Raises ``TooLarge`` where that is not decided.
    """
    if isinstance(answer, f.Raw) or isinstance(reference, f.Raw):
        return False
    for rule in (_choices, _chains, _names, _regions, _lists, _rows, _relations, _rest):
        verdict = rule(answer, reference)
        if verdict is not None:
            return verdict
    return False


def _choices(answer: Any, reference: Any) -> bool | None:
    """A letter with its text is that letter, or that text; both must agree where both have both."""
    answer, reference = _as_choice(answer, reference), _as_choice(reference, answer)
    if isinstance(answer, f.Choice) and isinstance(reference, f.Choice):
        if answer.letter != reference.letter:
            return False
        if answer.content is None or reference.content is None:
            return True
        return answer.content == reference.content or same(answer.content, reference.content)
    if isinstance(answer, f.Choice):
        return answer.content is not None and same(answer.content, reference)
    if isinstance(reference, f.Choice):
        return reference.content is not None and same(answer, reference.content)
    return None


def _as_choice(form: Any, other: Any) -> Any:
    """Return a bare capital letter beside a choice as a choice, and lists of letters alike."""
    if not isinstance(other, f.Choice):
        return form
    symbol = form.value if isinstance(form, f.Value) else None
    if isinstance(symbol, sympy.Symbol) and symbol.name in tuple("ABCDEFGHIJ"):
        return f.Choice(symbol.name)
    if isinstance(form, f.Words) and len(form.text) == 1:
        return f.Choice(form.text.upper())
    return form


def _chains(answer: Any, reference: Any) -> bool | None:
    """A chain of equal values is each of them, if all are equal or a rounding of the first."""
    if isinstance(answer, f.Chain):
        first, *rest = answer.forms
        if not all(consistent(form, first) for form in rest):
            return False
        return any(same(form, reference) for form in answer.forms)
    if isinstance(reference, f.Chain):
        return any(same(answer, form) for form in reference.forms)
    return None


def consistent(form: f.Value, exact: f.Value) -> bool:
    """Return whether a value equals an exact one, or is its rounding to three digits or more."""
    if same(form, exact):
        return True
    if form.digits < 3 or not isinstance(form.value, Fraction):
        return False
    return within(form.value, to_sympy(exact.value), form.step * Fraction(1, 2))


def _names(answer: Any, reference: Any) -> bool | None:
    """``x = 5`` is 5, but not ``y = 5``."""
    if isinstance(answer, f.Named) and isinstance(reference, f.Named):
        return _same_names(answer.name, reference.name) and same(answer.form, reference.form)
    if isinstance(reference, f.Named) and isinstance(answer, f.Region) and answer.name:
        return answer.name == reference.name and same(f.Region(answer.set), reference.form)
    if isinstance(answer, f.Named) and isinstance(reference, f.Region) and reference.name:
        return answer.name == reference.name and same(answer.form, f.Region(reference.set))
    if isinstance(reference, f.Relation) and isinstance(answer, f.Named):
        equation = _equation_of(answer)
        return equation is not None and same(equation, reference)
    if isinstance(answer, f.Relation) and isinstance(reference, f.Named):
        if isinstance(reference.form, f.Value) and not _has_variables(reference.form):
            return False  # an equation that is not solved
        equation = _equation_of(reference)
        return equation is not None and same(answer, equation)
    for named, other in ((answer, reference), (reference, answer)):
        if isinstance(named, f.Named):
            if isinstance(other, f.Row) and _turned(named.name):
                return False
            return same(named.form, other) if named is answer else same(other, named.form)
    return None


def _turned(name: str) -> bool:
    """Return whether a name holds coordinates in another order than usual: ``(y, x)``."""
    letters = name.strip("()").split(",")
    return letters != sorted(letters)


def _has_variables(form: f.Value) -> bool:
    return not isinstance(form.value, Fraction) and bool(form.value.free_symbols)


def _same_names(answer: str, reference: str) -> bool:
    """``f(x)`` and ``f`` are the same name, ``f(a)`` and ``f(b)`` are not."""
    first, second = (name.replace(" ", "").replace("\\", "") for name in (answer, reference))
    called = re.compile(r"\([a-z]\)$")
    return first == second or called.sub("", first) == second or first == called.sub("", second)


def _equation_of(form: f.Named) -> f.Relation | None:
    name = form.name.removeprefix("\\")
    if not isinstance(form.form, f.Value) or not name.isidentifier():
        return None
    return f.Relation(sympy.Symbol(name), "=", to_sympy(form.form.value))


def _regions(answer: Any, reference: Any) -> bool | None:
    """Sets of real numbers: intervals, inequalities, unions, the empty set."""
    if not isinstance(answer, f.Region) and not isinstance(reference, f.Region):
        return None
    names = {form.name for form in (answer, reference) if isinstance(form, f.Region) and form.name}
    if len(names) > 1:
        return False
    first, second = region_of(answer), region_of(reference)
    if first is None or second is None:
        return False
    return same_sets(first, second)


def _matched(answers: list[Any], references: list[Any]) -> bool:
    """Return whether each part of one list is equal to its own part of the other."""
    if len(answers) != len(references):
        return False
    left = list(references)
    for answer in answers:
        found = next((i for i, other in enumerate(left) if _same_part(answer, other)), None)
        if found is None:
            return False
        del left[found]
    return True


def _same_part(answer: Any, reference: Any) -> bool:
    """A set of one value is that value, but not as a part of another set or list."""
    sets = {isinstance(form, f.Several) and form.braces for form in (answer, reference)}
    return len(sets) == 1 and same(answer, reference)


def _unique(parts: tuple[Any, ...]) -> list[Any]:
    kept: list[Any] = []
    for part in parts:
        if not any(same(part, other) for other in kept):
            kept.append(part)
    return kept


def _lists(answer: Any, reference: Any) -> bool | None:
    """Lists and sets in any order; with an ellipsis, or names of coordinates, in order."""
    if isinstance(answer, f.Several) and isinstance(reference, f.Several):
        if any(isinstance(part, f.Dots) for part in (*answer.parts, *reference.parts)):
            return _in_order(answer.parts, reference.parts)
        if answer.braces or reference.braces:
            return _matched(_unique(answer.parts), _unique(reference.parts))
        return _matched(list(answer.parts), list(reference.parts))
    if isinstance(answer, f.Several):
        if isinstance(reference, f.Row) and len(answer.parts) > 1:
            values = _coordinates(answer)
            return values is not None and _in_order(values, reference.parts)
        # The same value in several spellings is that value.
        return all(same(part, reference) for part in answer.parts)
    if isinstance(reference, f.Several):
        if isinstance(answer, f.Row) and len(reference.parts) > 1:
            values = _coordinates(reference)
            return values is not None and _in_order(answer.parts, values)
        return len(reference.parts) == 1 and same(answer, reference.parts[0])
    return None


def _coordinates(form: f.Several) -> tuple[Any, ...] | None:
    """Return the values of ``x = 5, y = 7`` in the order of their names, else ``None``."""
    names = [part.name for part in form.parts if isinstance(part, f.Named)]
    if len(names) != len(form.parts) or len(set(names)) != len(names):
        return None
    ordered = sorted(form.parts, key=lambda part: _alphabet(part.name))
    return tuple(part.form for part in ordered)


def _alphabet(name: str) -> tuple[bool, str]:
    """Return the place of a coordinate among others: Greek letters behind the Latin ones."""
    return name.startswith("\\"), name


def _in_order(answers: tuple[Any, ...], references: tuple[Any, ...]) -> bool:
    return len(answers) == len(references) and all(
        same(answer, other) for answer, other in zip(answers, references, strict=True)
    )


_KINDS = {"\\langle": "(", "\\rangle": ")"}


def _rows(answer: Any, reference: Any) -> bool | None:
    """Points, vectors and intervals in order, with the same brackets; matrices cell by cell."""
    if isinstance(answer, f.Row) and isinstance(reference, f.Row):
        if _brackets(answer) != _brackets(reference):
            return False
        return _in_order(answer.parts, reference.parts)
    if isinstance(answer, f.Grid) and isinstance(reference, f.Grid):
        return len(answer.rows) == len(reference.rows) and all(
            _in_order(a, b) for a, b in zip(answer.rows, reference.rows, strict=True)
        )
    for grid, other in ((answer, reference), (reference, answer)):
        if isinstance(grid, f.Grid) and isinstance(other, f.Row) and _is_nested(other):
            nested = f.Grid(tuple(row.parts for row in other.parts))
            return _rows(*((grid, nested) if grid is answer else (nested, grid)))
        if isinstance(grid, f.Grid) and isinstance(other, f.Row):
            cells = grid.rows[0] if len(grid.rows) == 1 else tuple(row[0] for row in grid.rows)
            line = len(grid.rows) == 1 or all(len(row) == 1 for row in grid.rows)
            pair = (cells, other.parts) if grid is answer else (other.parts, cells)
            return line and other.opening in ("(", "\\langle") and _in_order(*pair)
        if isinstance(grid, f.Grid):
            single = len(grid.rows) == 1 and len(grid.rows[0]) == 1
            cell = grid.rows[0][0]
            return single and (same(cell, other) if grid is answer else same(other, cell))
    if isinstance(answer, f.Row) or isinstance(reference, f.Row):
        return False
    return None


def _is_nested(row: f.Row) -> bool:
    """Return whether a row is a matrix as programs write it: ``[[1, 2], [3, 4]]``."""
    return row.opening == "[" and all(
        isinstance(part, f.Row) and part.opening == "[" for part in row.parts
    )


def _brackets(row: f.Row) -> tuple[str, str]:
    opening = "(" if row.opening == "]" else _KINDS.get(row.opening, row.opening)
    closing = ")" if row.closing == "[" else _KINDS.get(row.closing, row.closing)
    return opening, closing


def _relations(answer: Any, reference: Any) -> bool | None:
    """Equations and inequalities up to a factor; an equation whose left side only names."""
    if isinstance(answer, f.Relation) and isinstance(reference, f.Relation):
        return same_relations(answer, reference)
    if isinstance(answer, f.Relation) and answer.sign == "=" and isinstance(reference, f.Value):
        named = len(answer.lhs.free_symbols) > 1 and not answer.rhs.free_symbols
        return named and same(as_value(answer.rhs), reference)
    if isinstance(answer, f.Relation) or isinstance(reference, f.Relation):
        return False
    return None


def _rest(answer: Any, reference: Any) -> bool | None:
    if isinstance(answer, f.Value) and isinstance(reference, f.Value):
        return same_values(answer, reference)
    if isinstance(answer, f.Clock) and isinstance(reference, f.Clock):
        return _same_times(answer, reference)
    if isinstance(answer, f.Clock) and isinstance(reference, f.Value | f.Ratio):
        if answer.half:
            return False
        parts = (f.Value(Fraction(answer.hour)), f.Value(Fraction(answer.minute)))
        return same(f.Ratio(parts), reference)
    if isinstance(answer, f.Ratio) or isinstance(reference, f.Ratio):
        return _same_ratios(answer, reference)
    if isinstance(answer, f.Dots | f.Words) and type(answer) is type(reference):
        return answer == reference
    return None


def _same_times(answer: f.Clock, reference: f.Clock) -> bool:
    """The same time; with am or pm on one side alone, also on the clock of 24 hours."""
    if answer.half == reference.half:
        return (answer.hour, answer.minute) == (reference.hour, reference.minute)
    if answer.half and reference.half:
        return False
    if (answer.hour, answer.minute) == (reference.hour, reference.minute):
        return True
    return _minutes(answer) == _minutes(reference)


def _minutes(clock: f.Clock) -> int:
    hour = clock.hour % 12 + 12 * (clock.half == "pm") if clock.half else clock.hour
    return hour * 60 + clock.minute


def _same_ratios(answer: Any, reference: Any) -> bool:
    first, second = (
        form.parts if isinstance(form, f.Ratio) else None for form in (answer, reference)
    )
    if first is not None and second is not None:
        if len(first) != len(second):
            return False
        if _in_order(first, second):
            return True
        values, others = _numbers(first), _numbers(second)
        if values is None or others is None or 0 in (values[0], others[0]):
            return False
        return all(equal(a * others[0], b * values[0]) for a, b in zip(values, others, strict=True))
    parts, other = (first, reference) if first is not None else (second, answer)
    assert parts is not None
    values = _numbers(parts)
    if values is None or len(values) != 2 or values[1] == 0 or not isinstance(other, f.Value):
        return False
    return same(as_value(values[0] / values[1]), other)


def _numbers(parts: tuple[Any, ...]) -> list[Any] | None:
    if not all(isinstance(part, f.Value) and not part.unit for part in parts):
        return None
    return [to_sympy(part.value) for part in parts]
