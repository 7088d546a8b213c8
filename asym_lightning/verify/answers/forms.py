"""The parsed forms of an answer: what the parser makes and the comparison takes."""

from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any


class TooLarge(Exception):
    """A number that is not computed because it would be too large, or a comparison too long."""


@dataclass(frozen=True)
class Value:
    """A number or an expression, with what is written beside it.

    ``value`` is a fraction, or a sympy expression. ``digits`` and ``step`` are as in ``Number``.
    ``base`` is the base of a numeral with an index, whose digits are ``numeral``. ``bound`` holds
    words such as "at least".
    """

    value: Any
    digits: int = 0
    step: Fraction = Fraction(0)
    unit: str = ""
    percent: bool = False
    base: int = 0
    numeral: str = ""
    bound: str = ""

    def __str__(self) -> str:
        text = f"{self.numeral}_{self.base}" if self.base else str(self.value)
        before = f"{self.bound} " if self.bound else ""
        return f"{before}{text}{'%' if self.percent else ''}{f' {self.unit}' if self.unit else ''}"


@dataclass(frozen=True)
class Words:
    """An answer in words, in lower case; dates and places too."""

    text: str

    def __str__(self) -> str:
        return self.text


@dataclass(frozen=True)
class Choice:
    """The letter of a choice, with the text of that choice or ``None``."""

    letter: str
    content: Any = None

    def __str__(self) -> str:
        return f"({self.letter})" + ("" if self.content is None else f" {self.content}")


@dataclass(frozen=True)
class Clock:
    """A time of the day; ``half`` is ``am``, ``pm`` or empty."""

    hour: int
    minute: int
    half: str = ""

    def __str__(self) -> str:
        return f"{self.hour}:{self.minute:02d}{f' {self.half}' if self.half else ''}"


@dataclass(frozen=True)
class Ratio:
    """Two or more parts with colons between them."""

    parts: tuple[Any, ...]

    def __str__(self) -> str:
        return ":".join(map(str, self.parts))


@dataclass(frozen=True)
class Several:
    """Answers side by side, in any order; ``braces`` for a set in braces."""

    parts: tuple[Any, ...]
    braces: bool = False

    def __str__(self) -> str:
        text = ", ".join(sorted(map(str, self.parts)))
        return f"{{{text}}}" if self.braces else text


@dataclass(frozen=True)
class Row:
    """Parts in order within brackets: a point, a vector, or (with two parts) an interval."""

    parts: tuple[Any, ...]
    opening: str = "("
    closing: str = ")"

    def __str__(self) -> str:
        return f"{self.opening}{', '.join(map(str, self.parts))}{self.closing}"


@dataclass(frozen=True)
class Grid:
    """A matrix: its rows."""

    rows: tuple[tuple[Any, ...], ...]

    def __str__(self) -> str:
        return "[" + "; ".join(", ".join(map(str, row)) for row in self.rows) + "]"


@dataclass(frozen=True)
class Region:
    """A set of real numbers (sympy), and the variable that lies in it or an empty text."""

    set: Any
    name: str = ""

    def __str__(self) -> str:
        return f"{f'{self.name} in ' if self.name else ''}{self.set}"


@dataclass(frozen=True)
class Named:
    """A form with the name that stands before its equals sign."""

    name: str
    form: Any

    def __str__(self) -> str:
        return f"{self.name} = {self.form}"


@dataclass(frozen=True)
class Relation:
    """An equation or inequality of two sympy expressions."""

    lhs: Any
    sign: str
    rhs: Any

    def __str__(self) -> str:
        return f"{self.lhs} {self.sign} {self.rhs}"


@dataclass(frozen=True)
class Chain:
    """Equal values, the first one exact: ``20\\pi = 62.8``, ``3 + 4 = 7``."""

    forms: tuple[Any, ...]

    def __str__(self) -> str:
        return str(self.forms[0])


@dataclass(frozen=True)
class Dots:
    """An ellipsis within a list."""

    def __str__(self) -> str:
        return "..."


@dataclass(frozen=True)
class Raw:
    """A text that the parser does not read; ``reason`` says why."""

    text: str
    reason: str = field(default="", compare=False)

    def __str__(self) -> str:
        return f"text {self.text!r}"
