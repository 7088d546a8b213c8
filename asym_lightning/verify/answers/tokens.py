"""A normalised answer as tokens: numbers, letters, commands, signs, and words of plain text."""

import re
from collections.abc import Iterator, Sequence
from typing import NamedTuple

_FUNCTION_NAMES = (
    "sin cos tan cot sec csc arcsin arccos arctan sinh cosh tanh log ln lg exp gcd lcm max min"
)
FUNCTIONS = frozenset(_FUNCTION_NAMES.split())
_BARE_COMMANDS = FUNCTIONS - {"min", "max"} | {"sqrt", "pi", "infty", "theta", "alpha", "beta"}
_ALIASES = {
    "infinity": "infty", "oo": "infty", "asin": "arcsin", "acos": "arccos", "atan": "arctan",
}  # fmt: skip
# Bare runs of up to three letters are products of variables, except these.
_SHORT = (
    "yes no odd even all none and or per am pm cm mm km kg mg ml mph kph hr hrs min sec ft in oz lb"
    " lbs yd mi mon tue wed thu fri sat sun jan feb mar apr may jun jul aug sep oct nov dec usd eur"
    " sq deg day rad one two six ten the nd rd is are was"
)
SHORT_WORDS = frozenset(_SHORT.split())
_TOKEN = re.compile(
    r"(?P<space>\s+)|\\text(?![a-zA-Z]) ?\{|(?P<cmd>\\[A-Za-z]+|\\[{}$|&_#])"
    r"|(?P<row>\\\\(?:\[[^\]]*\])?)"
    r"|(?P<num>\d+\.\d*(?:[eE][-+]?\d{1,4}(?![\d.]))?|\.\d+(?:[eE][-+]?\d{1,4})?"
    r"|1[eE][-+]\d{1,4}|\d+[eE][-+]\d{2,4}|\d+[eE]\d{1,4}(?![\d.])|\d+)"
    r"|(?P<letters>[A-Za-z]+)|(?P<op><=|>=|!=|==|\*\*|[-+*/^_(){}\[\]|,;:=<>!%&'.€£¥₹¢°])"
)
_IN_TEXT = re.compile(
    r"(?P<space>\s+)|(?P<word>[A-Za-z][A-Za-z]*(?:[-'][A-Za-z]+)*)|(?P<num>\d+(?:\.\d+)?)"
    r"|(?P<op>[-+*/^_(){}\[\],;:=<>%&'.!?$\"#@|€£¥₹¢°])"
)


class ParseError(ValueError):
    """A text that is not what the parser reads."""


class Token(NamedTuple):
    kind: str  # num, let, cmd, op, word
    text: str
    space: bool = False  # whether white space stands before it


Tokens = Sequence[Token]


def _braced(text: str, at: int) -> int:
    """Return the place of the brace that closes the one before ``at``."""
    depth = 1
    for place in range(at, len(text)):
        if text[place] == "{":
            depth += 1
        elif text[place] == "}":
            depth -= 1
            if depth == 0:
                return place
    raise ParseError("a brace is not closed")


def _text_tokens(content: str) -> Iterator[Token]:
    """Tokens of a text in ``\\text{}``: words, numbers and signs."""
    space, at = False, 0
    if re.fullmatch(r" ?[ei] ?", content):
        yield Token("let", content.strip(), False)
        return
    if content.strip() in FUNCTIONS - {"min"}:
        yield Token("cmd", "\\" + content.strip())
        return
    if "\\" in content:
        yield from tokenise(content)
        return
    while at < len(content):
        match = _IN_TEXT.match(content, at)
        if match is None:
            raise ParseError(f"the character {content[at]!r}")
        at = match.end()
        kind = match.lastgroup or ""
        if kind == "space":
            space = True
            continue
        yield Token(kind, match[0], space)
        space = False


def _letters(run: str, before: Token | None, space: bool) -> Iterator[Token]:
    """Tokens of a run of letters outside ``\\text``: a word, a function, or variables."""
    low = run.lower()
    name = _ALIASES.get(run, run)
    if name in _BARE_COMMANDS:
        yield Token("cmd", "\\" + name, space)
    elif (len(run) >= 4 and len(set(low)) > 2) or (len(run) >= 2 and low in SHORT_WORDS):
        yield Token("word", run, space)
    elif run == "x" and before is not None and before.kind == "num":
        yield Token("let", "x", space)
    else:
        for letter in run:
            yield Token("let", letter, space)
            space = False


def tokenise(text: str) -> list[Token]:
    """Return the tokens of a normalised text. Raises ``ParseError`` at a character it lacks."""
    tokens: list[Token] = []
    space, at = False, 0
    while at < len(text):
        match = _TOKEN.match(text, at)
        if match is None:
            raise ParseError(f"the character {text[at]!r}")
        at, kind = match.end(), match.lastgroup
        if kind == "space":
            space = True
            continue
        if kind is None:  # \text{
            end = _braced(text, at)
            tokens += _text_tokens(text[at:end])
            at = end + 1
        elif kind == "letters":
            tokens += _letters(match[0], tokens[-1] if tokens else None, space)
        elif kind == "row":
            tokens.append(Token("op", "\\\\", space))
        else:
            tokens.append(Token(kind, match[0], space))
        space = False
    return tokens


_OPENS = {"(", "[", "{", "\\{", "\\langle", "\\lfloor", "\\lceil", "\\begin"}
_CLOSES = {")", "]", "}", "\\}", "\\rangle", "\\rfloor", "\\rceil", "\\end"}


def split(tokens: Tokens, signs: frozenset[str]) -> tuple[list[list[Token]], list[str]]:
    """Return the parts between the ``signs`` outside all brackets, and those signs in order.

    Half-open intervals close with another kind of bracket than they open with.
    """
    parts: list[list[Token]] = [[]]
    found: list[str] = []
    depth = 0
    for token in tokens:
        if token.kind != "word" and token.text in _OPENS:
            depth += 1
        elif token.kind != "word" and token.text in _CLOSES:
            depth -= 1
        if depth == 0 and token.text in signs:
            parts.append([])
            found.append(token.text)
        else:
            parts[-1].append(token)
    return parts, found


def depth_of(text: str) -> int:
    """Return how deep brackets lie within brackets."""
    depth = deepest = 0
    for char in text:
        depth += (char in "([{") - (char in ")]}")
        deepest = max(deepest, depth)
    return deepest
