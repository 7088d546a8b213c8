"""Exact numbers as people and programs write them, read by patterns alone.

A text is a number as it stands or not at all: two numbers side by side, or a number beside
something else, have no value.
"""

import re
from dataclasses import dataclass
from fractions import Fraction

# Larger powers of ten are no number of an answer.
LARGEST_EXPONENT = 1000
_DECIMAL = r"(?:\d+(?:\.\d*)?|\.\d+)"
_WHOLE_TEXT = re.compile(r"[-+]? ?\d{1,2000}")
_PLAIN = re.compile(
    rf"(?P<sign>[-+]?) ?(?:10 ?\^ ?(?P<ten>\{{ ?[-+]? ?\d{{1,4}} ?\}}|[-+]?\d{{1,4}})"
    rf"|(?P<digits>{_DECIMAL})"
    rf"(?:[eE](?P<e>[-+]?\d{{1,4}})"
    rf"| ?[*x] ?10 ?\^ ?(?P<p>\{{ ?[-+]? ?\d{{1,4}} ?\}}|[-+]?\d{{1,4}}))?)"
)
_REPEATING = re.compile(
    r"(?P<sign>[-+]?) ?(?P<head>\d*\.\d*) ?"
    r"(?:\\(?:overline|bar|dot) ?(?:\{ ?(?P<a>\d+) ?\}|(?P<b>\d))|\((?P<c>\d+)\))"
)
_ELLIPSIS = re.compile(r"(?P<sign>[-+]?) ?(?P<head>\d*)\.(?P<tail>\d{3,60}) ?\\ldots")
_INT = r"(?:\{ ?(-?\d+(?:\.\d+)?) ?\}|(\d))"
_FRACTION = rf"\\frac ?{_INT} ?{_INT}"
_QUOTIENT = re.compile(rf"([-+]?) ?(?:{_FRACTION}|\(?([-+]?{_DECIMAL})\)? ?/ ?\(?({_DECIMAL})\)?)")
_MIXED = re.compile(rf"([-+]?) ?(\d+)(?: ?\\frac ?{_INT} ?{_INT}| (\d+) ?/ ?(\d+))")


@dataclass(frozen=True)
class Number:
    """An exact value and how it was written.

    ``digits`` counts the significant digits of a decimal, and ``step`` is one unit of its last
    place; both are 0 for a number written without a decimal point.
    """

    value: Fraction
    digits: int = 0
    step: Fraction = Fraction(0)


def _power(text: str | None) -> int | None:
    if text is None:
        return 0
    power = int(re.sub(r"[{} ]", "", text))
    return power if abs(power) <= LARGEST_EXPONENT else None


def _plain(match: re.Match[str]) -> Number | None:
    sign = -1 if match["sign"] == "-" else 1
    if match["ten"] is not None:
        power = _power(match["ten"])
        return None if power is None else Number(sign * Fraction(10) ** power)
    power = _power(match["e"] if match["e"] is not None else match["p"])
    if power is None:
        return None
    units, _, places = match["digits"].partition(".")
    digits = int(units + places or "0")
    scale = Fraction(10) ** (power - len(places))
    value = sign * digits * scale
    if value.denominator == 1:
        return Number(value)
    return Number(value, len((units + places).lstrip("0")), scale)


def _ambiguous(match: re.Match[str]) -> bool:
    """Return whether the text may mean Euler's number: 2e-3, 2e+3, but not 1e-3, 2.0e-3, 2e3."""
    power, digits = match["e"], match["digits"]
    if power is None or power[0] not in "+-":
        return False
    return "." not in digits and digits != "1" and len(power) < 3


def _repeating(match: re.Match[str]) -> Number:
    block = match["a"] or match["b"] or match["c"]
    units, _, places = match["head"].partition(".")
    base = Fraction(int(units + places or "0"), 10 ** len(places))
    value = base + Fraction(int(block), 10 ** len(places) * (10 ** len(block) - 1))
    return Number(-value if match["sign"] == "-" else value)


def _continued(match: re.Match[str]) -> Number | None:
    """Return the value of 0.1666... whose last digits repeat, or ``None``: 3.14159..."""
    tail = match["tail"]
    for period in range(1, len(tail) // 2 + 1):
        block = tail[-period:]
        times = 3 if period == 1 else 2
        if tail.endswith(block * times):
            head = tail[:-period]
            base = Fraction(int((match["head"] or "0") + head), 10 ** len(head))
            value = base + Fraction(int(block), 10 ** len(head) * (10**period - 1))
            return Number(-value if match["sign"] == "-" else value)
    return None


def _mixed(match: re.Match[str]) -> Number | None:
    sign, units, *parts = match.groups()
    top, bottom = (part for part in parts if part is not None)
    if "." in top + bottom or top.startswith("-") or not int(bottom) or int(top) >= int(bottom):
        return None
    value = int(units) + Fraction(int(top), int(bottom))
    return Number(-value if sign == "-" else value)


def _quotient(match: re.Match[str]) -> Number | None:
    sign, *parts = match.groups()
    top, bottom = (Fraction(part) for part in parts if part is not None)
    if not bottom:
        return None
    return Number(-top / bottom if sign == "-" else top / bottom)


def read_number(text: str) -> Number | None:
    """Return the number that a normalised text is, or ``None``.

    Whole numbers, decimals, ``1.5e3``, ``1.5*10^{3}``, ``0.\\overline{3}``, ``0.(3)``, ``3/4``,
    ``\\frac{3}{4}``, and mixed numbers such as ``1 3/4`` and ``1\\frac{3}{4}``, whose fraction is
    below 1.
    """
    text = text.strip()
    if not text.isascii() or len(text) > 4000:
        return None
    if _WHOLE_TEXT.fullmatch(text):
        return Number(Fraction(int(text.replace(" ", ""))))
    if match := _PLAIN.fullmatch(text):
        return None if _ambiguous(match) or len(text) > 2000 else _plain(match)
    if len(text) > 1000:
        return None
    if match := _REPEATING.fullmatch(text):
        return _repeating(match)
    if match := _ELLIPSIS.fullmatch(text):
        return _continued(match)
    if match := _MIXED.fullmatch(text):
        return _mixed(match)
    if match := _QUOTIENT.fullmatch(text):
        return _quotient(match)
    return None
