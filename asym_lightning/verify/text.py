"""Verifiers that need no worker: answers compared as text, as a letter or as an exact number.

Plain string work of our own.
"""

import re
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction
from typing import Literal

from asym_lightning.checks import NonNegative, validated
from asym_lightning.types import Kind, Verdict
from asym_lightning.verify.answers.normalise import normalise
from asym_lightning.verify.answers.quantities import read_quantity
from asym_lightning.verify.base import TRUNCATED, check_lengths
from asym_lightning.verify.extract import last_boxed, lenient

MAX_CHARS = 200
_LETTER = re.compile(
    r"(?:(?:[Oo]ption|[Cc]hoice|[Aa]nswer):? ?)?(?:\(?([A-Za-z])\)?|\[([A-Za-z])\])"
    r"(?P<rest>[.:)].*| .*|,.*)?",
    re.DOTALL,
)
# Another letter behind the first: several letters are no choice.
_ANOTHER = re.compile(
    r"\([A-Za-z]\)|^[.)]?\s*(?:and|or|to|,|/|&|;)\s*\(?[A-Za-z]\)?(?![A-Za-z])|,\s*\(?[A-J]\)?(?![A-Za-z])"
)
_REASON = re.compile(r"[.:)].*|,? (?:because|since|as)\b.*", re.DOTALL)
_WRAPPED = re.compile(r"\\text ?\{([^{}]*)\}|\{([^{}]*)\}")


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
            return replace(self.compare(answer, reference), text=answer, reference=reference)
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

    ``B``, ``(b)``, ``\\text{(B)}``, ``Option B`` and ``B. because ...`` are equal; several letters
    are no choice. ``compare`` raises ``ValueError`` for a reference that is not a single letter.
    """

    def __init__(self, extract: Extract = "lenient") -> None:
        super().__init__(extract)

    def compare(self, answer: str, reference: str) -> Verdict:
        expected, chosen = letter(reference), letter(answer)
        if expected is None:
            raise ValueError(f"reference answer {reference[:60]!r} is not a choice such as B")
        if chosen is None:
            return Verdict(0.0, Kind.UNPARSEABLE, detail="not a single letter")
        return _judged(chosen == expected, chosen)


def letter(text: str) -> str | None:
    """Return the letter of a choice, with or without the text of that choice, else ``None``."""
    text = _WRAPPED.sub(lambda match: match[1] or match[2] or "", normalise(text)).strip()
    match = _LETTER.fullmatch(" ".join(text.replace("*", "").split()))
    if match is None:
        return None
    rest = match["rest"] or ""
    if _ANOTHER.search(rest) or not (rest == "" or _REASON.fullmatch(rest) or ")" in match[0][:3]):
        return None
    return (match[1] or match[2]).upper()


def number(text: str) -> Fraction | None:
    """Return the exact value of a number as people write it, or ``None`` for other text.

    E.g. ``1,234.5``, ``3/4``, ``\\frac{3}{4}``, ``1 3/4``, ``8\\%`` (0.08), ``1.2e3``, ``x = 5``,
    ``5 cm``. The complete text is the number, or it has no value.
    """
    found = read_quantity(text)
    if found is None:
        return None
    value, percent = found
    return value.value / 100 if percent else value.value


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
