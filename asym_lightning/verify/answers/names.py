"""Names that stand before an equals sign."""

import re

from asym_lightning.verify.answers.tokens import ParseError, Tokens
from asym_lightning.verify.answers.units import ALTERING, BOUNDS

# Functions whose equation has still to be solved: \\sqrt{x} = 5 is not 5.
_SOLVED_FIRST = {
    "\\sqrt", "\\frac", "\\log", "\\ln", "\\lg", "\\exp", "\\binom", "\\lfloor", "\\lceil", "\\pm",
    "\\mp",
}  # fmt: skip
_TRIGONOMETRIC = r"\\(?:sin|cos|tan|cot|sec|csc)"


def name_of(tokens: Tokens) -> str | None:
    """Return the name that tokens before an equals sign are, or ``None``.

    A variable with or without index, a function of variables, capital letters of a line, an angle,
    or words.
    """
    if not tokens or len(tokens) > 24:
        return None
    text = "".join(token.text for token in tokens if token.text not in "{}")
    said = " ".join(token.text for token in tokens if token.kind == "word").lower()
    if said in BOUNDS or ALTERING & set(said.split()):
        raise ParseError(f"the words {said!r} before a sign")
    if all(token.kind == "word" for token in tokens):
        return said
    if said:
        named = all(token.kind in ("word", "let") or token.text in "_{}'" for token in tokens)
        return text if named else None
    if tokens[0].text in ("\\angle", "\\triangle", "\\overline", "\\vec", "\\widehat"):
        return text
    if re.fullmatch(r"\([A-Za-z](?:,[A-Za-z])+\)", text):
        return text
    if re.fullmatch(r"\\fracd[A-Za-z]?d[a-z]|m\\angle[A-Z]+", text):
        return text
    if tokens[0].text in _SOLVED_FIRST:
        return None
    letter = r"(?:\\?[A-Za-z]+)"
    called = r"(?:\([\w,+=|<>*\\-]+\))"
    if re.fullmatch(rf"{_TRIGONOMETRIC}\\[a-z]+|[fgh]\^-1{called}", text):
        return text
    if re.fullmatch(rf"{letter}(?:_(?:\w|\\text|\\max|\\min)+)?'*{called}?", text):
        if text[0] != "\\" and len(text) > 1 and text.isalpha() and not text.isupper():
            return None
        if text in ("e", "i", "\\pi", "\\infty"):
            return None
        return text
    return None
