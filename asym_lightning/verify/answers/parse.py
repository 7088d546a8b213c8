"""A normalised answer to its form: number, text, choice, list, point, interval, relation."""

from fractions import Fraction
from functools import lru_cache
from typing import Any

import sympy

from asym_lightning.verify.answers import forms as f
from asym_lightning.verify.answers.algebra import expression
from asym_lightning.verify.answers.choices import choice
from asym_lightning.verify.answers.layout import matrix_cells, sign_readings
from asym_lightning.verify.answers.library import by_library
from asym_lightning.verify.answers.names import name_of
from asym_lightning.verify.answers.numbers import read_number
from asym_lightning.verify.answers.regions import joined, region_of, solve
from asym_lightning.verify.answers.sentences import (
    clock,
    is_date,
    means_empty,
    means_reals,
    reads_as_words,
    without_sentence,
)
from asym_lightning.verify.answers.tokens import (
    ParseError,
    Token,
    depth_of,
    split,
    tokenise,
)
from asym_lightning.verify.answers.units import NUMBER_WORDS
from asym_lightning.verify.answers.values import value_of

_CACHED = 8192
_MAX_PARTS = 60
_MAX_DEPTH = 50
# Raised within sympy by texts that have no value.
_UNREADABLE = (
    ArithmeticError, AttributeError, LookupError, RecursionError, TypeError, ValueError,
)  # fmt: skip
_AND_OR = {"and", "or"}
_SIGNS = frozenset(("=", "<", ">", "<=", ">=", "!=", "\\approx", "\\in", "=="))


@lru_cache(_CACHED)
def parse(text: str) -> Any:
    """Return the form of a normalised answer; ``Raw`` where it cannot be read.

    Raises ``TooLarge`` for numbers that are too large to compute.
    """
    return _form_of(text)


def _form_of(text: str) -> Any:
    text = text.strip()
    number = read_number(text)
    if number is not None:
        return f.Value(number.value, number.digits, number.step)
    if not text:
        return f.Raw("", "nothing")
    if depth_of(text) > _MAX_DEPTH:
        return f.Raw(text, "too many brackets within brackets")
    time, chosen = clock(text), choice(text)
    if time is not None:
        return time
    if chosen is not None:
        return f.Choice(chosen[0], _form_of(chosen[1]) if chosen[1] else None)
    if is_date(text):
        return f.Words(text)
    said = reads_as_words(text)
    if said is not None:
        if means_empty(said):
            return f.Region(sympy.S.EmptySet)
        if means_reals(said):
            return f.Region(sympy.S.Reals)
    try:
        tokens = tokenise(text)
        return _form(without_sentence(tokens))
    except ParseError as error:
        if said is not None:
            return f.Words(said)
        late = by_library(text)
        return f.Raw(text, str(error)) if late is None else f.Value(late)
    except (
        ArithmeticError,
        AttributeError,
        LookupError,
        RecursionError,
        ValueError,
        TypeError,
    ) as error:
        return f.Raw(text, f"{type(error).__name__}: {error}"[:80])


def _form(tokens: list[Token]) -> Any:
    """Return the form of tokens. Raises ``ParseError``."""
    if not tokens:
        raise ParseError("an empty part")
    if len(tokens) == 1 and tokens[0].kind == "word" and len(tokens[0].text) == 1:
        return f.Value(sympy.Symbol(tokens[0].text))
    number = NUMBER_WORDS.get(tokens[0].text.lower()) if tokens[0].kind == "word" else None
    if number is not None and len(tokens) == 1:
        return f.Value(Fraction(number))
    if all(token.kind == "word" for token in tokens):
        words = [token.text for token in tokens]
        if not (len(words) == 3 and words[1] in _AND_OR):
            return f.Words(" ".join(words).lower().replace("-", ""))
    for read in (_listed, _related, _signed_pair, _united, _ratio, _bracketed):
        form = read(tokens)
        if form is not None:
            return form
    return value_of(tokens)


def _listed(tokens: list[Token]) -> Any:
    parts, signs = split(tokens, frozenset((",", ";", *_AND_OR)))
    if not signs:
        return None
    words = [sign for sign in signs if sign in _AND_OR]
    filled = [part for part in parts if part]
    if len(filled) > _MAX_PARTS:
        raise ParseError(f"more than {_MAX_PARTS} parts")
    # "1, 2, and 3" has an empty part between the comma and the word.
    empty = len(parts) - len(filled)
    if empty > len(words) or not filled:
        raise ParseError("an empty part of a list")
    found = [_form(part) for part in filled]
    if len(set(words)) == 1 and all(isinstance(form, f.Region) for form in found):
        return joined(found, words[0])
    if any(isinstance(form, f.Words) for form in found) and not all(
        isinstance(form, f.Words) for form in found
    ):
        raise ParseError("a list of words and numbers")
    flat = [part for form in found for part in (form.parts if _is_list(form) else [form])]
    return f.Several(tuple(flat))


def _is_list(form: Any) -> bool:
    return isinstance(form, f.Several) and not form.braces


def _related(tokens: list[Token]) -> Any:
    parts, signs = split(tokens, _SIGNS)
    if not signs:
        return None
    if len(parts) > 8 or not all(parts):
        raise ParseError("a relation without one of its sides")
    if set(signs) <= {"=", "\\approx", "=="}:
        return _equality(parts, signs)
    if signs == ["\\in"]:
        name = name_of(parts[0])
        if name is None:
            raise ParseError("an element that is no name")
        form = _form(parts[1])
        region = region_of(form)
        listed = region is None or isinstance(form, f.Several)
        return f.Named(name, form) if listed else f.Region(region, name)
    if "=" in signs or "\\in" in signs or "\\approx" in signs:
        raise ParseError("signs of several kinds")
    sides = [expression(part) for part in parts]
    solved = solve(sides, signs)
    if solved is not None:
        return solved
    if len(signs) > 1:
        pairs = zip(sides, signs, sides[1:], strict=False)
        return f.Several(tuple(f.Relation(*pair) for pair in pairs))
    return f.Relation(sides[0], signs[0], sides[1])


def _equality(parts: list[list[Token]], signs: list[str]) -> Any:
    name = name_of(parts[0])
    if name is not None:
        rest = parts[1:]
        form = _form(rest[0]) if len(rest) == 1 else _equality(rest, signs[1:])
        last = name_of(rest[-1])
        if isinstance(form, f.Named | f.Relation | f.Several) and len(rest) > 1:
            raise ParseError("several names")
        if last is not None and last == name:
            raise ParseError("a name that equals itself")
        return f.Named(name, form)
    if len(parts) == 2 and (last := name_of(parts[1])) is not None:
        return f.Named(last, _form(parts[0]))
    values = [_form(part) for part in parts]
    if all(_is_number(form) for form in values):
        return f.Chain(tuple(values))
    if len(parts) != 2:
        raise ParseError("an equation of more than two sides")
    return f.Relation(expression(parts[0]), "=", expression(parts[1]))


def _is_number(form: Any) -> bool:
    return isinstance(form, f.Value) and (
        isinstance(form.value, Fraction) or not form.value.free_symbols
    )


def _united(tokens: list[Token]) -> Any:
    """Return a union, intersection or difference of sets."""
    parts, signs = split(tokens, frozenset(("\\cup", "\\cap", "\\setminus")))
    if not signs:
        if (
            len(tokens) > 2
            and tokens[0].text == "\\mathbb"
            and tokens[4:5]
            and tokens[4].text == "-"
        ):
            return _difference([_form(tokens[:4]), _form(tokens[5:])])
        return None
    if len(set(signs)) > 1:
        raise ParseError("a union and an intersection without brackets")
    found = [_form(part) for part in parts]
    if signs[0] == "\\setminus":
        return _difference(found)
    regions = [region_of(form) for form in found]
    if all(region is not None for region in regions):
        named = [f.Region(region) for region in regions]
        return joined(named, "or" if signs[0] == "\\cup" else "and")
    if signs[0] == "\\cup":
        return f.Several(tuple(found), braces=True)
    raise ParseError("an intersection of sets that are not known")


def _difference(found: list[Any]) -> Any:
    regions = [region_of(form) for form in found]
    if len(regions) != 2 or any(region is None for region in regions):
        raise ParseError("a difference of sets that are not known")
    return f.Region(sympy.Complement(*regions))


def _ratio(tokens: list[Token]) -> Any:
    parts, signs = split(tokens, frozenset((":", "to")))
    if not signs:
        return None
    if not all(parts):
        raise ParseError("a ratio without one of its parts")
    if all(part[0].kind == "word" or len(part) > 12 for part in parts[:1]):
        raise ParseError("words before a colon")
    return f.Ratio(tuple(_form(part) for part in parts))


def _bracketed(tokens: list[Token]) -> Any:
    """Return what brackets around all tokens hold: a point, a vector, an interval, a set."""
    first, last = tokens[0].text, tokens[-1].text
    if tokens[0].text == "\\emptyset" and len(tokens) == 1:
        return f.Region(sympy.S.EmptySet)
    if first == "\\mathbb" and "".join(token.text for token in tokens[1:]).strip("{}") == "R":
        return f.Region(sympy.S.Reals)
    if first == "\\begin":
        return _matrix(tokens)
    if len(tokens) < 2 or first not in ("(", "[", "]", "{", "\\{", "\\langle"):
        return None
    if last not in (")", "]", "[", "}", "\\}", "\\rangle") or not _encloses(tokens):
        return None
    inner = tokens[1:-1]
    if first == "\\{" and last == "\\}":
        return _set(inner)
    parts, signs = split(inner, frozenset((",", ";")))
    if not signs:
        if not inner:
            raise ParseError("empty brackets")
        closes = {"(": ")", "[": "]", "{": "}", "\\langle": "\\rangle"}.get(first)
        return _form(inner) if closes == last else None
    if first == "{" and last == "}":
        return _set(inner) if all(parts) else None
    if not all(parts) or len(parts) > _MAX_PARTS:
        raise ParseError("a bracket with an empty part")
    return f.Row(tuple(_form(part) for part in parts), first, last)


def _encloses(tokens: list[Token]) -> bool:
    """Return whether the first bracket closes with the last token."""
    if tokens[0].text == "]" or tokens[-1].text == "[":
        return True
    depth = 0
    for at, token in enumerate(tokens):
        if token.kind == "word":
            continue
        depth += token.text in ("(", "[", "{", "\\{", "\\langle")
        depth -= token.text in (")", "]", "}", "\\}", "\\rangle")
        if depth == 0 and at < len(tokens) - 1:
            return False
    return depth == 0


def _set(inner: list[Token]) -> Any:
    if not inner:
        return f.Region(sympy.S.EmptySet)
    parts, signs = split(inner, frozenset(("|", ":")))
    if len(parts) == 2 and signs:
        element, membership = split(parts[0], frozenset(("\\in",)))
        real = not membership or _form(element[1]) == f.Region(sympy.S.Reals)
        if real and name_of(element[0]) is not None:
            return _form(parts[1])  # a set of all x with a condition
    while inner[0].text == "{" and _encloses(inner):
        inner = inner[1:-1]  # braces that cannot be seen
    form = _form(inner)
    return f.Several(form.parts if _is_list(form) else (form,), braces=True)


def _matrix(tokens: list[Token]) -> Any:
    rows = matrix_cells(tokens, _MAX_PARTS)
    return f.Grid(tuple(tuple(_form(cell) for cell in row) for row in rows))


def _signed_pair(tokens: list[Token]) -> Any:
    """Return all values of a text with plus-minus signs."""
    readings = sign_readings(tokens) if tokens[0].text != "\\{" else []
    return f.Several(tuple(_form(reading) for reading in readings)) if readings else None
