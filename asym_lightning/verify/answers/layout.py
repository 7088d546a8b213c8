"""Matrices and plus-minus signs as several lists of tokens."""

import re

from asym_lightning.verify.answers.tokens import ParseError, Token, split


def _place(tokens: list[Token], text: str, start: int) -> int:
    """Return the place of a token. Raises ``ParseError`` without one."""
    for at in range(start, len(tokens)):
        if tokens[at].text == text:
            return at
    raise ParseError(f"{text} is missing")


def matrix_cells(tokens: list[Token], limit: int) -> list[list[list[Token]]]:
    """Return the cells of a matrix, row by row. Raises ``ParseError``."""
    text = "".join(token.text for token in tokens[1:])
    match = re.match(r"\{([pbvV]?(?:small)?matrix|array)\}", text)
    if match is None or match[1] in ("vmatrix", "Vmatrix"):
        raise ParseError("an environment that is no matrix")
    at = _place(tokens, "}", 0) + 1
    if match[1] == "array" and tokens[at].text == "{":
        at = _place(tokens, "}", at) + 1
    end = _place(tokens, "\\end", at)
    if "".join(token.text for token in tokens[end + 1 :]) != f"{{{match[1]}}}":
        raise ParseError("something behind a matrix")
    rows = [row for row in split(tokens[at:end], frozenset(("\\\\",)))[0] if row]
    if not 0 < len(rows) <= limit:
        raise ParseError("a matrix without rows, or with too many")
    cells = [split(row, frozenset(("&", "\\&")))[0] for row in rows]
    if len({len(row) for row in cells}) != 1 or not all(all(row) for row in cells):
        raise ParseError("rows of a matrix that differ in length")
    return cells


def sign_readings(tokens: list[Token]) -> list[list[Token]]:
    """Return the tokens with each choice of their plus-minus signs; none without such a sign.

    With a minus-plus sign among several all change together, else each one by itself.
    """
    places = [i for i, token in enumerate(tokens) if token.text in ("\\pm", "\\mp")]
    if not places:
        return []
    if len(places) > 3:
        raise ParseError("more than three plus-minus signs")
    together = any(tokens[i].text == "\\mp" for i in places) and len(places) > 1
    choices = range(2) if together else range(2 ** len(places))
    readings = []
    for number in choices:
        signed = list(tokens)
        for bit, place in enumerate(places):
            minus = (number if together else number >> bit) & 1
            minus ^= together and tokens[place].text == "\\mp"
            signed[place] = Token("op", "-" if minus else "+", tokens[place].space)
        readings.append(signed)
    return readings
