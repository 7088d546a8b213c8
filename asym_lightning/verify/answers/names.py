"""Names that stand before an equals sign."""

import re

from asym_lightning.verify.answers.tokens import ParseError, Tokens
from asym_lightning.verify.answers.units import BOUNDS


def name_of(tokens: Tokens) -> str | None:
    """Return the name that tokens before an equals sign are, or ``None``.

    A variable with or without index, a function of variables, capital letters of a line, an angle,
    or words.
    """
    if not tokens or len(tokens) > 24:
        return None
    text = "".join(token.text for token in tokens if token.text not in "{}")
    said = " ".join(token.text for token in tokens if token.kind == "word").lower()
    if said in BOUNDS:
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
    letter = r"(?:\\?[A-Za-z]+)"
    if re.fullmatch(rf"{letter}(?:_(?:\w|\\text)+)?'*(?:\([\w,+=|<>*-]+\))?", text):
        if text[0] != "\\" and len(text) > 1 and text.isalpha() and not text.isupper():
            return None
        if text in ("e", "i", "\\pi", "\\infty"):
            return None
        return text
    return None
