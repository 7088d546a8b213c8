"""Tokens of one value: a number or an expression with unit, per cent, degree, currency or base."""

from fractions import Fraction
from typing import Any

from asym_lightning.verify.answers import forms as f
from asym_lightning.verify.answers.algebra import expression
from asym_lightning.verify.answers.arithmetic import rational
from asym_lightning.verify.answers.numbers import read_number
from asym_lightning.verify.answers.tokens import ParseError, Token, Tokens
from asym_lightning.verify.answers.units import (
    BOUNDS,
    CALENDAR,
    CURRENCY,
    FILLER,
    ORDINALS,
    begins_unit,
    unit_of,
)


def value_of(tokens: list[Token]) -> Any:
    """Return a number or an expression with its unit. Raises ``ParseError``."""
    if len(tokens) == 1 and tokens[0].text == "\\ldots":
        return f.Dots()
    tokens, bound = _bound(tokens)
    tokens, unit, percent = _behind(tokens)
    if not tokens:
        raise ParseError("no number beside the words")
    based = _numeral(tokens)
    if based is not None:
        return based
    number = read_number(_spelled(tokens))
    if number is not None:
        return f.Value(number.value, number.digits, number.step, unit, percent, bound=bound)
    found = expression(tokens)
    if found.is_Rational:
        found = Fraction(int(found.p), int(found.q))
    return f.Value(found, unit=unit, percent=percent, bound=bound)


def _spelled(tokens: Tokens) -> str:
    return "".join(f"{' ' if token.space else ''}{token.text}" for token in tokens).strip()


def _bound(tokens: list[Token]) -> tuple[list[Token], str]:
    """Return the tokens without words before them, and the bound that those words name."""
    at = 0
    while at < len(tokens) and tokens[at].kind == "word":
        at += 1
    words = " ".join(
        token.text.lower() for token in tokens[:at] if token.text.lower() not in FILLER
    )
    if at == len(tokens) or not words:
        return tokens[at:] if at < len(tokens) else tokens, ""
    if words not in BOUNDS:
        raise ParseError(f"the words {words!r} before a number")
    return tokens[at:], BOUNDS[words]


def _behind(tokens: list[Token]) -> tuple[list[Token], str, bool]:
    """Return the tokens without unit, currency, degree and per cent sign, and what those are."""
    unit = ""
    first = 1 if tokens[0].text == "-" and len(tokens) > 1 else 0
    if tokens[first].text in CURRENCY:
        unit = CURRENCY[tokens[first].text]
        tokens = tokens[:first] + tokens[first + 1 :]
    elif tokens[-1].text in CURRENCY:
        unit, tokens = CURRENCY[tokens[-1].text], tokens[:-1]
    if len(tokens) > 4 and tokens[-2].text in ORDINALS and tokens[-4].text == "^":
        tokens = tokens[:-4]  # 5^{\text{th}}
    depth = 0
    for at, token in enumerate(tokens):
        if depth == 0 and at and begins_unit(tokens, at):
            return _with_words(tokens[:at], tokens[at:], unit)
        if token.kind != "word":
            depth += token.text in ("(", "[", "{")
            depth -= token.text in (")", "]", "}")
    if tokens and tokens[-1].text == "%":
        return tokens[:-1], unit, True
    if tokens and tokens[-1].text == "°":
        return tokens[:-1], "degree", False
    return tokens, unit, False


def _with_words(
    tokens: list[Token], behind: list[Token], unit: str
) -> tuple[list[Token], str, bool]:
    words = [token.text.lower() for token in behind if token.kind == "word"]
    if words[:1] and words[0] in ORDINALS and tokens[-1].kind == "num":
        behind, words = behind[1:], words[1:]
    if words in (["percent"], ["per", "cent"], ["percents"], ["percentage"]):
        return tokens, unit, True
    found = unit_of(behind)
    if found is None or any(word in CALENDAR for word in words):
        raise ParseError("words behind a number that are no unit")
    if tokens[-1].text == "°":  # 20 degrees Celsius
        tokens, found = tokens[:-1], f"degree {found}"
    if unit and found and found != unit and singular_of(found) != unit:
        found = f"{unit} {found}"
    return tokens, found or unit, False


def singular_of(unit: str) -> str:
    return unit.split(" ")[0]


def _numeral(tokens: list[Token]) -> f.Value | None:
    """Return a numeral with its base, e.g. ``1101_2``, ``2A_{16}``, ``1101_{\\text{base }2}``."""
    at = next((i for i, token in enumerate(tokens) if token.text == "_"), 0)
    if not at or any(token.kind not in ("num", "let") for token in tokens[:at]):
        return None
    digits = "".join(token.text for token in tokens[:at]).upper()
    index = [token.text for token in tokens[at + 1 :] if token.text not in "{}()"]
    index = [text for text in index if text.lower() != "base"]
    named = {"two": "2", "three": "3", "four": "4", "five": "5", "six": "6", "seven": "7",
             "eight": "8", "nine": "9", "ten": "10", "sixteen": "16"}  # fmt: skip
    base_text = named.get(index[0].lower(), index[0]) if len(index) == 1 else ""
    if not digits.isalnum() or not base_text.isdigit() or not 2 <= int(base_text) <= 36:
        return None
    if not any(char.isdigit() for char in digits):
        return None
    base = int(base_text)
    try:
        value = int(digits, base)
    except ValueError:
        raise ParseError(f"{digits} is no numeral of base {base}") from None
    return f.Value(Fraction(value), base=base, numeral=digits.lstrip("0") or "0")


def to_sympy(value: Any) -> Any:
    """Return a value as a sympy expression."""
    return rational(value) if isinstance(value, Fraction) else value
