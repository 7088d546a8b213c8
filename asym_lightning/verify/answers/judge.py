"""Verdict on an answer: normalise, parse, compare, and why."""

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from asym_lightning.verify.answers import forms as f
from asym_lightning.verify.answers.compare import same
from asym_lightning.verify.answers.normalise import normalise, squeeze
from asym_lightning.verify.answers.parse import parse

_CACHED = 8192
# Raised within sympy by values that it cannot compare, such as a floor at too high a precision.
_UNDECIDED = (
    ArithmeticError, AttributeError, NotImplementedError, RecursionError, TypeError, ValueError,
)  # fmt: skip


@dataclass(frozen=True)
class Judgement:
    """The kind of a verdict, the reason for it, and both parsed forms as text."""

    kind: str
    why: str
    answer: str | None = None
    reference: str | None = None


def _printed(form: Any) -> str:
    """Return a form as text, also where its numbers have more digits than Python prints."""
    try:
        return str(form)
    except ValueError:
        return "a number of more than 4,300 digits"


@lru_cache(_CACHED)
def judge(answer: str, reference: str) -> Judgement:
    """Return the judgement on an answer. All errors of a text become a kind."""
    text, expected = normalise(answer), normalise(reference)
    if not text:
        return Judgement("unparseable", "nothing is left of the answer without its typesetting")
    if squeeze(text) == squeeze(expected):
        return Judgement("correct", "the same text", text, reference=expected)
    try:
        return _compared(text, expected)
    except (f.TooLarge, *_UNDECIDED) as error:
        return Judgement("timeout", f"not decided: {error or type(error).__name__}")


def _compared(text: str, expected: str) -> Judgement:
    wanted = parse(expected)
    if isinstance(wanted, f.Raw):
        why = f"reference answer {expected[:60]!r} cannot be parsed: {wanted.reason}"
        return Judgement("error", why, None, reference=_printed(wanted))
    found = parse(text)
    shown, target = _printed(found), _printed(wanted)
    if isinstance(found, f.Raw):
        return Judgement("unparseable", f"no expression: {found.reason}", None, reference=target)
    if same(found, wanted):
        return Judgement("correct", "equal values", shown, reference=target)
    return Judgement("wrong", "different values", shown, reference=target)


def describe(text: str) -> str:
    """Return the parsed form of an answer as text."""
    try:
        return _printed(parse(normalise(text)))
    except f.TooLarge as error:
        return f"not computed: {error}"
