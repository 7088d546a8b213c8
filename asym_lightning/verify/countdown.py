"""Pairs countdown: a tokenizer and exact rational arithmetic of our own.

No answer is ever executed.
"""

import re
from collections import Counter
from collections.abc import Sequence
from fractions import Fraction

from asym_lightning.types import Kind, Verdict
from asym_lightning.verify.base import TRUNCATED, check_lengths

MAX_CHARS = 64
_TOKEN = re.compile(r"[0-9]+|[-+*/=]")
_REFERENCE = re.compile(r"([1-9]{4})>([0-9]+)")


def apply(x: int, op: str, y: int) -> Fraction | None:
    """Return the exact value of ``x op y``, or ``None`` where the rules forbid it.

    x-y needs x > y; x/y must be exact.
    """
    match op:
        case "+":
            return Fraction(x + y)
        case "*":
            return Fraction(x * y)
        case "-" if x > y:
            return Fraction(x - y)
        case "/" if y and x % y == 0:
            return Fraction(x, y)
    return None


def canonical(x: int, op: str, y: int, result: int) -> str:
    """Return the equation as text in canonical form, so that equal solutions compare equal.

    The larger operand of + and * comes first.
    """
    if op in "+*" and x < y:
        x, y = y, x
    return f"{x}{op}{y}={result}"


def parse_equation(text: str) -> tuple[int, str, int, int] | None:
    """Return ``(x, op, y, result)`` of an equation like ``7*1=7``, or ``None`` for other text.

    Spaces are allowed.
    """
    tokens, at = [], 0
    text = text.replace(" ", "")
    while at < len(text):
        match = _TOKEN.match(text, at)
        if match is None:
            return None
        tokens.append(match.group())
        at = match.end()
    if len(tokens) != 5 or tokens[1] not in "+-*/" or tokens[3] != "=":
        return None
    if not all(tokens[i].isdigit() for i in (0, 2, 4)):
        return None
    return int(tokens[0]), tokens[1], int(tokens[2]), int(tokens[4])


class CountdownVerifier:
    """Verifies answers of pairs countdown; a reference is ``digits>target``, e.g. ``7715>7``.

    A correct answer is one of + - * / on two of the four digits, each used at most as often as it
    is among the four. x-y needs x > y, a division must be exact, the equation must be true and its
    result is the target.
    """

    def score(
        self, completions: Sequence[str], references: Sequence[str], truncated: Sequence[bool]
    ) -> list[Verdict]:
        """See ``Verifier.score``.

        Raises ``ValueError`` for a reference other than ``dddd>target``.
        """
        check_lengths(completions, references, truncated)
        return [
            TRUNCATED if cut else self._verify(text, reference)
            for text, reference, cut in zip(completions, references, truncated, strict=True)
        ]

    def close(self) -> None:
        pass

    @staticmethod
    def _verify(completion: str, reference: str) -> Verdict:
        numbers_and_target = _REFERENCE.fullmatch(reference)
        if numbers_and_target is None:
            raise ValueError(f"reference answer {reference!r} is not of the form 7715>7")
        digits, target = Counter(map(int, numbers_and_target[1])), int(numbers_and_target[2])
        if len(completion) > MAX_CHARS:
            return Verdict(0.0, Kind.UNPARSEABLE, detail=f"longer than {MAX_CHARS} characters")
        text = completion.strip()
        if not text:
            return Verdict(0.0, Kind.NO_ANSWER)
        equation = parse_equation(text)
        if equation is None:
            detail = "not one operation on two digits and its result"
            return Verdict(0.0, Kind.UNPARSEABLE, detail=detail)
        x, op, y, result = equation
        correct = not Counter((x, y)) - digits and apply(x, op, y) == result == target
        kind = Kind.CORRECT if correct else Kind.WRONG
        return Verdict(float(correct), kind, canonical(*equation))
