"""Answers that need no worker: compared as text, as a letter, or as an exact number, by plain string work of our own."""

import re
from abc import ABC, abstractmethod
from collections.abc import Sequence
from fractions import Fraction

from asym_lightning.types import ConfigError, Kind, Verdict
from asym_lightning.verify.base import TRUNCATED, check_lengths
from asym_lightning.verify.extract import last_boxed, lenient

MAX_CHARS = 200
_LETTER = re.compile(r"(?:\\(?:text|mathrm|textbf)\{)?[\s(\[*]*([A-Za-z])(?![A-Za-z])")
_FRAC = re.compile(r"([-+]?)\\[dt]?frac\{([-+]?\d+)\}\{(\d+)\}")
_SCIENTIFIC = re.compile(r"(?: ?\\times ?10\^\{?|[eE])([-+]?\d{1,3})\}?$")
_DECIMAL = re.compile(r"[-+]?(?:\d{1,3}(?:,\d{3})+|\d+)?(?:\.\d*)?")


def whole(text: str) -> tuple[str | None, bool]:
    """The whole completion as the answer."""
    return text.strip(), True


EXTRACTORS = {"boxed": last_boxed, "lenient": lenient, "whole": whole}


class TextVerifier(ABC):
    """What the verifiers of this module share: the answer is found as ``extract`` says (``boxed``: the last ``\\boxed{}``; ``lenient``:
    else what follows "the answer is" or ends the last line; ``whole``: the completion). Raises ``ConfigError`` for another word."""

    def __init__(self, extract: str = "boxed") -> None:
        if extract not in EXTRACTORS:
            raise ConfigError(f"task.verify.extract={extract} must be one of {', '.join(EXTRACTORS)}")
        self._extract = EXTRACTORS[extract]

    def score(self, completions: Sequence[str], answers: Sequence[str], truncated: Sequence[bool]) -> list[Verdict]:
        """See ``Verifier.score``."""
        check_lengths(completions, answers, truncated)
        return [TRUNCATED if cut else self._verdict(text, gold) for text, gold, cut in zip(completions, answers, truncated, strict=True)]

    def _verdict(self, completion: str, gold: str) -> Verdict:
        answer, there = self._extract(completion)
        if not there or answer == "":
            return Verdict(0.0, Kind.NO_ANSWER)
        if answer is None or len(answer) > MAX_CHARS:
            why = "the last \\boxed has no balanced braces" if answer is None else f"longer than {MAX_CHARS} characters"
            return Verdict(0.0, Kind.UNPARSEABLE, detail=why)
        try:
            return self.compare(answer, gold)
        except ValueError as error:
            return Verdict(0.0, Kind.ERROR, detail=str(error))

    @abstractmethod
    def compare(self, answer: str, gold: str) -> Verdict:
        """The verdict on an answer that was found. Raises ``ValueError`` for a reference that is none."""

    def close(self) -> None:  # noqa: B027
        """Nothing is held."""


def _judged(right: bool, answer: str) -> Verdict:
    return Verdict(float(right), Kind.CORRECT if right else Kind.WRONG, answer)


class ExactMatch(TextVerifier):
    """Right is the reference's text, spaces folded; letters' case counts only with ``case_sensitive``."""

    def __init__(self, extract: str = "boxed", case_sensitive: bool = False) -> None:
        super().__init__(extract)
        self._case_sensitive = case_sensitive

    def compare(self, answer: str, gold: str) -> Verdict:
        one, other = (" ".join(text.split()) for text in (answer, gold))
        if not self._case_sensitive:
            one, other = one.casefold(), other.casefold()
        return _judged(one == other, one)


class MultipleChoice(TextVerifier):
    """Right is the reference's letter: ``B``, ``(b)``, ``\\text{(B)}``, ``B. because ...`` are the same. Raises ``ValueError`` for a
    reference that starts with no single letter."""

    def __init__(self, extract: str = "lenient") -> None:
        super().__init__(extract)

    def compare(self, answer: str, gold: str) -> Verdict:
        wanted, given = _LETTER.match(gold.strip()), _LETTER.match(answer.strip())
        if wanted is None:
            raise ValueError(f"reference answer {gold[:60]!r} is not a choice such as B")
        if given is None:
            return Verdict(0.0, Kind.UNPARSEABLE, detail="not a single letter")
        return _judged(given[1].upper() == wanted[1].upper(), given[1].upper())


def number(text: str) -> Fraction | None:
    """The exact value of a number as people write it: ``1,234.5``, ``3/4``, ``\\frac{3}{4}``, ``8\\%`` (0.08), ``1.2e3``; else ``None``."""
    text = text.strip().strip("$").strip().removeprefix("\\$").rstrip(".").replace("\\!", "").replace("−", "-")
    percent = text.endswith("%")
    text = text.rstrip("%").rstrip("\\").strip()
    fraction = _FRAC.fullmatch(text)
    power = _SCIENTIFIC.search(text)
    scale = Fraction(10) ** int(power[1]) if power else Fraction(1)
    text = text[: power.start()] if power else text
    top, slash, bottom = (f"{fraction[1]}{fraction[2]}", "/", fraction[3]) if fraction else text.partition("/")
    values = [_decimal(part) for part in ((top, bottom) if slash else (top,))]
    if any(value is None for value in values) or (slash and not values[1]):
        return None
    value = values[0] / values[1] if slash else values[0]  # type: ignore[operator]
    return value * scale / (100 if percent else 1)  # type: ignore[operator]


def _decimal(text: str) -> Fraction | None:
    text = text.strip()
    if not text.isascii() or not any(char.isdigit() for char in text) or not _DECIMAL.fullmatch(text):
        return None
    return Fraction(text.replace(",", "").rstrip(".") if not text.endswith(".") else text.replace(",", "") + "0")


class NumberWithTolerance(TextVerifier):
    """Right is a number within ``absolute`` or within ``relative`` times the reference; 0 and 0: equal. Exact arithmetic, no floats.

    Raises ``ConfigError`` for a negative tolerance, ``ValueError`` for a reference that is not a number.
    """

    def __init__(self, extract: str = "lenient", absolute: float = 0.0, relative: float = 0.0) -> None:
        super().__init__(extract)
        for name, value in (("absolute", absolute), ("relative", relative)):
            if not 0 <= value < float("inf"):
                raise ConfigError(f"task.verify.{name}={value} must be 0 or more")
        self._absolute, self._relative = Fraction(str(absolute)), Fraction(str(relative))

    def compare(self, answer: str, gold: str) -> Verdict:
        wanted, given = number(gold), number(answer)
        if wanted is None:
            raise ValueError(f"reference answer {gold[:60]!r} is not a number")
        if given is None:
            return Verdict(0.0, Kind.UNPARSEABLE, detail="not a number")
        right = abs(given - wanted) <= max(self._absolute, self._relative * abs(wanted))
        return _judged(right, str(wanted if right else given))
