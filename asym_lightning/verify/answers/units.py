"""Units and words beside a number, each in one spelling."""

import re

from asym_lightning.verify.answers.tokens import Tokens

CURRENCY = {
    "\\$": "dollar",
    "€": "euro",
    "£": "pound sterling",
    "¥": "yen",
    "₹": "rupee",
    "¢": "cent",
}
_SPELLINGS = {
    "m": "metre meter", "cm": "centimetre centimeter", "mm": "millimetre millimeter",
    "km": "kilometre kilometer", "g": "gram gramme", "kg": "kilogram kilo", "mg": "milligram",
    "l": "litre liter", "ml": "millilitre milliliter", "s": "second sec", "min": "minute",
    "h": "hour hr", "day": "d", "ft": "foot feet", "in": "inch inche", "yd": "yard", "mi": "mile",
    "oz": "ounce", "lb": "pound lbs", "mi/h": "mph", "km/h": "kph kmh", "dollar": "usd buck",
    "euro": "eur", "cent": "¢", "degree": "deg", "percent": "", "n": "newton", "j": "joule",
    "w": "watt", "v": "volt", "hz": "hertz", "k": "kelvin", "rad": "radian", "year": "yr",
    "week": "wk", "person": "people", "child": "children", "man": "men", "woman": "women",
    "unit": "", "foot": "", "c": "celsius", "f": "fahrenheit",
}  # fmt: skip
_NAMES = {word: name for name, words in _SPELLINGS.items() for word in words.split()}
# Words that set an answer and mean nothing for its value.
_FILLER = (
    "exactly about approximately approx around roughly only just the answer is are equals equal to"
    " a an of total final so therefore thus hence result value number we get have it its in all"
    " there can be will must which that this gives find obtain value"
)
FILLER = frozenset(_FILLER.split())
_TRAILING = frozenset(
    ("total", "all", "altogether", "exactly", "only", "approximately", "about", "the", "of")
)
# Words behind a number that multiply it: the power of ten.
SCALES = {"hundred": 2, "thousand": 3, "million": 6, "billion": 9, "trillion": 12}
# Words that change what they stand beside: no name, and no unit.
_ALTERING = (
    "not no never neither nor without wrong incorrect false except minus plus factorial half halves"
    " twice double triple thirds fourths fifths sixths sevenths eighths ninths tenth tenths"
    " hundredth hundredths thousandth thousandths isn't aren't"
)
BOUNDS = {
    "at least": "at least", "at most": "at most", "more than": "more than",
    "less than": "less than",
    "no more than": "at most", "no less than": "at least", "fewer than": "less than",
    "greater than": "more than", "not": "not", "up to": "at most", "over": "more than",
    "under": "less than",
}  # fmt: skip
_CALENDAR = (
    "monday tuesday wednesday thursday friday saturday sunday january february march april may june"
    " july august september october november december mon tue wed thu fri sat sun jan feb mar apr"
    " jun jul aug sep sept oct nov dec am pm a.m p.m noon midnight bc ad bce ce o'clock"
)
CALENDAR = frozenset(_CALENDAR.split())
_PARTS = frozenset("^/*{}()-.,") | {"\\frac", "\\mu"}
_COUNTED = (
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen"
    " sixteen seventeen eighteen nineteen twenty"
)
NUMBER_WORDS = {word: number for number, word in enumerate(_COUNTED.split())}
ALTERING = frozenset(_ALTERING.split()) | frozenset(NUMBER_WORDS)
SINGLE = frozenset("mgshlLNJWVKAd")


def singular(word: str) -> str:
    """Return a word in lower case and singular, under its usual sign: ``metres`` is ``m``."""
    low = word.lower()
    for form in (low, low.removesuffix("s"), low.removesuffix("es")):
        if form in _NAMES:
            return _NAMES[form]
        if form in _SPELLINGS:
            return form
    return low.removesuffix("s") if len(low) > 3 and not low.endswith("ss") else low


def _names_total(tokens: Tokens) -> bool:
    return bool(tokens) and tokens[0].text.lower() in _TRAILING


def unit_of(tokens: Tokens) -> str | None:
    """Return the unit that the tokens behind a number spell, or ``None``.

    ``square centimetres`` and ``cm^2`` are equal, and so are ``km per hour`` and ``km/h``.
    """
    text, power = "", ""
    for at, token in enumerate(tokens):
        if token.kind == "word" and token.text.lower() in CALENDAR | ALTERING | SCALES.keys():
            return None
        if token.kind == "word" or (token.kind == "let" and token.text in SINGLE):
            low = token.text.lower()
            if low in ("square", "sq", "cubic"):
                power = "^2" if low != "cubic" else "^3"
            elif low in ("squared", "cubed"):
                if not text:
                    return None
                text += "^2" if low == "squared" else "^3"
            elif low == "per":
                text += "/"
            elif low in _TRAILING or (low == "in" and _names_total(tokens[at + 1 :])):
                continue
            else:
                joint = " " if text and text[-1].isalnum() else ""
                text, power = f"{text}{joint}{singular(token.text)}{power}", ""
        elif token.text == "\\frac":
            continue
        elif token.text in "{}(),.":
            # The bar of a fraction of units.
            if token.text == "}" and "\\frac" in [part.text for part in tokens] and "/" not in text:
                text += "/"
        elif token.text in _PARTS or (token.kind == "num" and text.endswith(("^", "^-"))):
            text += token.text
        else:
            return None
    text = re.sub(r"/$", "", text)
    return re.sub(r"\^1$", "", text)


def begins_unit(tokens: Tokens, at: int) -> bool:
    """Return whether a unit begins at that place: a word, or a fraction of words."""
    token = tokens[at]
    if token.kind == "word":
        return True
    if token.text == "\\mu" and at + 1 < len(tokens):
        return tokens[at + 1].kind == "word"
    if token.text == "/" and at + 1 < len(tokens):
        return tokens[at + 1].kind == "word"
    if token.text == "\\frac" and at + 2 < len(tokens):
        return tokens[at + 1].text == "{" and tokens[at + 2].kind == "word"
    alone = at == len(tokens) - 1 and at > 0 and tokens[at - 1].kind == "num"
    return bool(alone and token.kind == "let" and token.space and token.text in SINGLE)
