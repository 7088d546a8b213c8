"""Tokens of one value: a number or an expression with unit, per cent, degree, currency or base."""

from dataclasses import replace
from fractions import Fraction
from typing import Any

from asym_lightning.verify.answers import forms as f
from asym_lightning.verify.answers.algebra import expression
from asym_lightning.verify.answers.arithmetic import rational
from asym_lightning.verify.answers.numbers import read_number
from asym_lightning.verify.answers.quantities import spelled, without_bound, without_unit
from asym_lightning.verify.answers.tokens import ParseError, Token


def value_of(tokens: list[Token]) -> Any:
    """Return a number or an expression with its unit. Raises ``ParseError``."""
    if len(tokens) == 1 and tokens[0].text == "\\ldots":
        return f.Dots()
    tokens, bound = without_bound(tokens)
    tokens, unit, percent = without_unit(tokens)
    if not tokens:
        raise ParseError("no number beside the words")
    based = _numeral(tokens)
    if based is not None:
        return replace(based, bound=bound, unit=unit)
    number = read_number(spelled(tokens))
    if number is not None:
        return f.Value(number.value, number.digits, number.step, unit, percent, bound=bound)
    found = expression(tokens)
    if found.is_Rational:
        found = Fraction(int(found.p), int(found.q))
    return f.Value(found, unit=unit, percent=percent, bound=bound)


def _numeral(tokens: list[Token]) -> f.Value | None:
    """Return a numeral with its base, e.g. ``1101_2``, ``2A_{16}``, ``1101_{\\text{base }2}``."""
    if tokens[0].text == "(" and [token.text for token in tokens[2:4]] == [")", "_"]:
        tokens = [tokens[1], *tokens[3:]]
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
    base = int(base_text)
    if not any(char.isdigit() for char in digits) and (base < 11 or len(digits) < 2):
        return None
    try:
        value = int(digits, base)
    except ValueError:
        raise ParseError(f"{digits} is no numeral of base {base}") from None
    return f.Value(Fraction(value), base=base, numeral=digits.lstrip("0") or "0")


def to_sympy(value: Any) -> Any:
    """Return a value as a sympy expression."""
    return rational(value) if isinstance(value, Fraction) else value
