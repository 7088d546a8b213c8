"""Words, units and signs beside a number; and quantities, for which no algebra is needed."""

from functools import lru_cache

from asym_lightning.verify.answers.names import name_of
from asym_lightning.verify.answers.normalise import normalise
from asym_lightning.verify.answers.numbers import Number, read_number
from asym_lightning.verify.answers.sentences import without_sentence
from asym_lightning.verify.answers.tokens import (
    FUNCTIONS,
    ParseError,
    Token,
    Tokens,
    split,
    tokenise,
)
from asym_lightning.verify.answers.units import (
    BOUNDS,
    CALENDAR,
    CURRENCY,
    FILLER,
    SCALES,
    begins_unit,
    singular,
    unit_of,
)

_FUNCTIONS = {f"\\{name}" for name in FUNCTIONS}


def spelled(tokens: Tokens) -> str:
    return "".join(f"{' ' if token.space else ''}{token.text}" for token in tokens).strip()


def without_bound(tokens: list[Token]) -> tuple[list[Token], str]:
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


def without_unit(tokens: list[Token]) -> tuple[list[Token], str, bool]:
    """Return the tokens without unit, currency, degree and per cent sign, and what those are."""
    unit = ""
    first = 1 if tokens[0].text == "-" and len(tokens) > 1 else 0
    if tokens[first].text in CURRENCY:
        unit = CURRENCY[tokens[first].text]
        tokens = tokens[:first] + tokens[first + 1 :]
    elif tokens[-1].text in CURRENCY:
        unit, tokens = CURRENCY[tokens[-1].text], tokens[:-1]
    if len(tokens) > 2 and tokens[-2].text == "°" and tokens[-1].text in ("C", "F"):
        return tokens[:-2], f"degree {tokens[-1].text.lower()}", False
    depth = 0
    for at, token in enumerate(tokens):
        if depth == 0 and at and begins_unit(tokens, at):
            return _with_words(tokens[:at], tokens[at:], unit)
        if token.kind != "word":
            depth += token.text in ("(", "[", "{")
            depth -= token.text in (")", "]", "}")
    if tokens and tokens[-1].text == "%":
        return tokens[:-1], unit, True
    # A degree sign within a function belongs to its argument.
    if tokens and tokens[-1].text == "°" and not any(t.text in _FUNCTIONS for t in tokens):
        return tokens[:-1], "degree", False
    return tokens, unit, False


def _with_words(
    tokens: list[Token], behind: list[Token], unit: str
) -> tuple[list[Token], str, bool]:
    words = [token.text.lower() for token in behind if token.kind == "word"]
    if words in (["percent"], ["per", "cent"], ["percents"], ["percentage"]):
        return tokens, unit, True
    scaled = list(tokens)
    while behind and singular(behind[0].text) in SCALES:
        power = str(SCALES[singular(behind[0].text)])
        scaled += [Token("op", "*"), Token("num", "10"), Token("op", "^"), Token("num", power)]
        words, behind = words[1:], behind[1:]
    tokens, found = scaled, unit_of(behind)
    if found is None or any(word in CALENDAR for word in words):
        raise ParseError("words behind a number that are no unit")
    if tokens[-1].text == "°":  # 20 degrees Celsius
        tokens, found = tokens[:-1], f"degree {found}"
    if unit and found and found != unit and _first_of(found) != unit:
        found = f"{unit} {found}"
    return tokens, found or unit, False


def _first_of(unit: str) -> str:
    return unit.split(" ")[0]


@lru_cache(4096)
def read_quantity(text: str) -> tuple[Number, bool] | None:
    """Return the number of an answer and whether it is in per cent, or ``None``.

    A name before an equals sign and a unit behind the number are passed over.
    """
    try:
        tokens = without_sentence(tokenise(normalise(text)))
        parts, signs = split(tokens, frozenset(("=", "\\approx")))
        if len(signs) == 1 and name_of(parts[0]) is not None:
            tokens = parts[1]
        while len(tokens) > 2 and (tokens[0].text, tokens[-1].text) in (("{", "}"), ("(", ")")):
            tokens = tokens[1:-1]
        if not tokens:
            return None
        tokens, bound = without_bound(list(tokens))
        tokens, _, percent = without_unit(tokens)
    except ValueError:
        return None
    number = None if bound == "not" else read_number(spelled(tokens))
    return None if number is None else (number, percent)
