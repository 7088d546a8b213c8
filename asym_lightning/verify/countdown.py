"""Pairs countdown: a tokenizer and exact rational arithmetic of our own, so that no answer is ever executed."""

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
    """Exact value of ``x op y``, or ``None`` where the rules forbid it (x-y needs x > y, x/y must be exact)."""
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
    """The equation as text, the larger operand of + and * first, so that equal solutions compare equal."""
    if op in "+*" and x < y:
        x, y = y, x
    return f"{x}{op}{y}={result}"


def parse_equation(text: str) -> tuple[int, str, int, int] | None:
    """``(x, op, y, result)`` of an equation like ``7*1=7`` (spaces allowed), or ``None`` where it is not one."""
    tokens, at = [], 0
    text = text.replace(" ", "")
    while at < len(text):
        found = _TOKEN.match(text, at)
        if found is None:
            return None
        tokens.append(found.group())
        at = found.end()
    if len(tokens) != 5 or tokens[1] not in "+-*/" or tokens[3] != "=" or not all(tokens[i].isdigit() for i in (0, 2, 4)):
        return None
    return int(tokens[0]), tokens[1], int(tokens[2]), int(tokens[4])


class CountdownVerifier:
    """Verifies answers of pairs countdown; a reference answer is ``digits>target``, e.g. ``7715>7``.

    Right: one of + - * / on two of the four digits (each used as often as it is there at most), x-y only for x > y, division
    exact, the equation true, its result the target.
    """

    def score(self, completions: Sequence[str], answers: Sequence[str], truncated: Sequence[bool]) -> list[Verdict]:
        """See ``Verifier.score``. Raises ``ValueError`` for a reference that is not ``dddd>target``."""
        check_lengths(completions, answers, truncated)
        return [TRUNCATED if cut else self._verify(text, answer) for text, answer, cut in zip(completions, answers, truncated, strict=True)]

    def close(self) -> None:
        pass

    @staticmethod
    def _verify(completion: str, answer: str) -> Verdict:
        reference = _REFERENCE.fullmatch(answer)
        if reference is None:
            raise ValueError(f"reference answer {answer!r} is not of the form 7715>7")
        digits, target = Counter(map(int, reference[1])), int(reference[2])
        if len(completion) > MAX_CHARS:
            return Verdict(0.0, Kind.UNPARSEABLE, detail=f"longer than {MAX_CHARS} characters")
        text = completion.strip()
        if not text:
            return Verdict(0.0, Kind.NO_ANSWER)
        equation = parse_equation(text)
        if equation is None:
            return Verdict(0.0, Kind.UNPARSEABLE, detail="not one operation on two digits and its result")
        x, op, y, result = equation
        right = not Counter((x, y)) - digits and apply(x, op, y) == result == target
        return Verdict(float(right), Kind.CORRECT if right else Kind.WRONG, canonical(*equation))
