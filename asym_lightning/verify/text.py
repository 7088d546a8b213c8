"""Verifiers that need no worker: answers compared as text, as a letter or as an exact number.

Plain string work of our own.
"""

import re
from abc import ABC, abstractmethod
from collections.abc import Sequence
from fractions import Fraction
from typing import Literal

from asym_lightning.checks import NonNegative, validated
from asym_lightning.types import Kind, Verdict
from asym_lightning.verify.base import TRUNCATED, check_lengths
from asym_lightning.verify.extract import last_boxed, lenient

MAX_CHARS = 200
_LETTER = re.compile(r"(?:\\(?:text|mathrm|textbf)\{)?[\s(\[*]*([A-Za-z])(?![A-Za-z])")
_FRAC = re.compile(r"([-+]?)\\[dt]?frac\{([-+]?\d+)\}\{(\d+)\}")
_SCIENTIFIC = re.compile(r"(?: ?\\times ?10\^\{?|[eE])([-+]?\d{1,3})\}?$")
_DECIMAL = re.compile(r"[-+]?(?:\d{1,3}(?:,\d{3})+|\d+)?(?:\.\d*)?")


def full_completion(text: str) -> tuple[str | None, bool]:
    """Return the full completion as the answer."""
    return text.strip(), True


EXTRACTORS = {"boxed": last_boxed, "lenient": lenient, "whole": full_completion}
Extract = Literal["boxed", "lenient", "whole"]


@validated
class TextVerifier(ABC):
    """Base class of the verifiers in this module.

    Args:
        extract: the place of the answer. ``boxed``: the last ``\\boxed{}``; ``lenient``: the same,
            else the text after "the answer is" or the end of the last line; ``whole``: the full
            completion.
    """

    def __init__(self, extract: Extract = "boxed") -> None:
        self._extract = EXTRACTORS[extract]

    def score(
        self, completions: Sequence[str], references: Sequence[str], truncated: Sequence[bool]
    ) -> list[Verdict]:
        """See ``Verifier.score``."""
        check_lengths(completions, references, truncated)
        return [
            TRUNCATED if cut else self._verdict(text, reference)
            for text, reference, cut in zip(completions, references, truncated, strict=True)
        ]

    def _verdict(self, completion: str, reference: str) -> Verdict:
        answer, has_answer = self._extract(completion)
        if not has_answer or answer == "":
            return Verdict(0.0, Kind.NO_ANSWER)
        if answer is None:
            return Verdict(0.0, Kind.UNPARSEABLE, detail="the last \\boxed has no balanced braces")
        if len(answer) > MAX_CHARS:
            return Verdict(0.0, Kind.UNPARSEABLE, detail=f"longer than {MAX_CHARS} characters")
        try:
            return self.compare(answer, reference)
        except ValueError as error:
            return Verdict(0.0, Kind.ERROR, detail=str(error))

    @abstractmethod
    def compare(self, answer: str, reference: str) -> Verdict:
        """Return the verdict on an extracted answer.

        Raises ``ValueError`` for an invalid reference.
        """

    def close(self) -> None:  # noqa: B027
        """Do nothing: there are no workers."""


def _judged(correct: bool, answer: str) -> Verdict:
    return Verdict(float(correct), Kind.CORRECT if correct else Kind.WRONG, answer)


@validated
class ExactMatch(TextVerifier):
    """Accepts the reference's text, with runs of white space as one space.

    The case of letters counts only with ``case_sensitive``.
    """

    def __init__(self, extract: Extract = "boxed", case_sensitive: bool = False) -> None:
        super().__init__(extract)
        self._case_sensitive = case_sensitive

    def compare(self, answer: str, reference: str) -> Verdict:
        answer, reference = " ".join(answer.split()), " ".join(reference.split())
        if not self._case_sensitive:
            answer, reference = answer.casefold(), reference.casefold()
        return _judged(answer == reference, answer)


@validated
class MultipleChoice(TextVerifier):
    """Accepts the reference's letter.

    ``B``, ``(b)``, ``\\text{(B)}`` and ``B. because ...`` are equal. ``compare`` raises
    ``ValueError`` for a reference that does not start with a single letter.
    """

    def __init__(self, extract: Extract = "lenient") -> None:
        super().__init__(extract)

    def compare(self, answer: str, reference: str) -> Verdict:
        expected, chosen = _LETTER.match(reference.strip()), _LETTER.match(answer.strip())
        if expected is None:
            raise ValueError(f"reference answer {reference[:60]!r} is not a choice such as B")
        if chosen is None:
            return Verdict(0.0, Kind.UNPARSEABLE, detail="not a single letter")
        return _judged(chosen[1].upper() == expected[1].upper(), chosen[1].upper())


def number(text: str) -> Fraction | None:
    """Return the exact value of a number as people write it, or ``None`` for other text.

    E.g. ``1,234.5``, ``3/4``, ``\\frac{3}{4}``, ``8\\%`` (0.08), ``1.2e3``.
    """
    text = text.strip().strip("$").strip().removeprefix("\\$").rstrip(".")
    text = text.replace("\\!", "").replace("−", "-")
    percent = text.endswith("%")
    text = text.rstrip("%").rstrip("\\").strip()
    fraction = _FRAC.fullmatch(text)
    power = _SCIENTIFIC.search(text)
    scale = Fraction(10) ** int(power[1]) if power else Fraction(1)
    text = text[: power.start()] if power else text
    if fraction:
        value = _quotient(f"{fraction[1]}{fraction[2]}", fraction[3])
    elif "/" in text:
        numerator, _, denominator = text.partition("/")
        value = _quotient(numerator, denominator)
    else:
        value = _decimal(text)
    if value is None:
        return None
    return value * scale / (100 if percent else 1)


def _quotient(numerator: str, denominator: str) -> Fraction | None:
    top, bottom = _decimal(numerator), _decimal(denominator)
    return top / bottom if top is not None and bottom else None


def _decimal(text: str) -> Fraction | None:
    """Return the exact value of a decimal such as ``1,234.5``, or ``None`` for other text."""
    text = text.strip()
    if not text.isascii() or not any(char.isdigit() for char in text):
        return None
    if not _DECIMAL.fullmatch(text):
        return None
    digits = text.replace(",", "")
    return Fraction(f"{digits}0" if digits.endswith(".") else digits)


@validated
class NumberWithTolerance(TextVerifier):
    """Accepts a number within ``absolute`` of the reference, or within ``relative`` times it.

    With both at 0 the numbers must be equal. Exact arithmetic, no floats. ``compare`` raises
    ``ValueError`` for a reference that is not a number.
    """

    def __init__(
        self,
        extract: Extract = "lenient",
        absolute: NonNegative = 0.0,
        relative: NonNegative = 0.0,
    ) -> None:
        super().__init__(extract)
        self._absolute, self._relative = Fraction(str(absolute)), Fraction(str(relative))

    def compare(self, answer: str, reference: str) -> Verdict:
        expected, value = number(reference), number(answer)
        if expected is None:
            raise ValueError(f"reference answer {reference[:60]!r} is not a number")
        if value is None:
            return Verdict(0.0, Kind.UNPARSEABLE, detail="not a number")
        tolerance = max(self._absolute, self._relative * abs(expected))
        correct = abs(value - expected) <= tolerance
        return _judged(correct, str(expected if correct else value))
