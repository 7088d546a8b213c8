"""The place of the answer in a completion.

Plain string work: no text is parsed as mathematics, and no search takes more than linear time.
"""

import re

_BOX = "\\boxed"
# Characters at the end of a completion in which anchors are searched.
_TAIL = 20_000
_ANCHOR = re.compile(
    r"(?i)\banswer(?: to [^.:\n]{1,80})?(?:\*\*|\s){0,3}(?::|\bis\b|=)(?:\*\*|\s){0,3}:?|####"
)
_MATH = re.compile(
    r"\$\$([^$]{1,2000})\$\$|\$([^$\n]{1,2000})\$|\\\(([^\n]{1,2000}?)\\\)|\\\[(.{1,2000}?)\\\]",
    re.DOTALL,
)
_NUMBER = re.compile(r"[-+]?\\?\$?\d(?:[\d,]*\d)?(?:\.\d+)?(?: ?/ ?\d+)?(?: ?\\?%)?")
# Text after a number that makes it a part of an expression.
_CONTINUED = re.compile(r"[\^_({\\!]|\s*[-+*/^=<>]|[A-Za-z]\b")
_BETWEEN = re.compile(r"[\s$,;.&]{0,10}(?:and|or|\\text\{ ?(?:and|or) ?\})?[\s$,;]{0,10}")


def _box_at(text: str, start: int) -> tuple[str | None, int]:
    """Return the content of the ``\\boxed`` at ``start`` and its end in ``text``.

    The content is ``None`` if the box never closes.
    """
    at = start + len(_BOX)
    while at < len(text) and text[at].isspace():
        at += 1
    if text[at : at + 1] != "{":
        single = text[at:].split("$", 1)[0].split("\n", 1)[0].strip().rstrip(".")
        return (single if at > start + len(_BOX) else None), at + len(single)
    first, depth = at + 1, 0
    while at < len(text):
        char = text[at]
        if char == "\\":
            at += 1
        elif char == "{":
            depth += 1
        elif char == "}":
            depth -= 1
            if depth == 0:
                return text[first:at].strip(), at + 1
        at += 1
    return None, len(text)


def last_boxed(text: str) -> tuple[str | None, bool]:
    """Return the content of the last ``\\boxed{}`` and whether there is a box at all.

    ``(None, True)`` is a box that never closes. Braces are balanced, escaped ones do not count.
    ``\\boxed 5`` boxes the text up to the end of the formula, as in LaTeX sources of MATH.
    """
    start = text.rfind(_BOX)
    return (None, False) if start < 0 else (_box_at(text, start)[0], True)


def last_boxes(text: str, limit: int = 20) -> list[str]:
    """Return the boxes at the end that only "and", "or" and commas separate, at most ``limit``.

    E.g. both boxes of ``x = \\boxed{1}$ or $\\boxed{2}``.
    """
    contents: list[str] = []
    after = len(text)
    while len(contents) < limit:
        start = text.rfind(_BOX, 0, after)
        if start < 0:
            break
        content, end = _box_at(text, start)
        if content is None:
            break
        if contents and (end > after or _BETWEEN.fullmatch(text, end, after) is None):
            break
        contents.insert(0, content)
        after = start
    return contents


def _formula(match: re.Match[str]) -> str:
    """Return the text of a formula that ``_MATH`` matched, without its delimiters."""
    return next(part for part in match.groups() if part is not None).strip()


def _trimmed(text: str) -> str:
    """Return the answer in the text after an anchor.

    It is the first formula, if it begins in the first line, else the leading number of that line,
    else the first sentence of it.
    """
    line = text.strip().split("\n", 1)[0].strip().strip("*").strip()
    formula = _MATH.search(text[:3000])
    if formula is not None and text.find(formula.group()) <= text.find(line) + len(line):
        return _formula(formula)
    number = _NUMBER.match(line)
    if number is not None and not _CONTINUED.match(line[number.end() :]):
        return number.group()
    return re.split(r"\.\s|\.$", line, maxsplit=1)[0].strip().rstrip(".*").strip()


def lenient(text: str) -> tuple[str | None, bool]:
    """Return the answer of a model that was never told to box it, for evaluation.

    As ``last_boxed``. Without a box, or with an empty one: the text after the last "answer is",
    "answer:" or "####", else the last formula of the last line, else its last number.
    """
    boxed = last_boxed(text)
    if boxed[0]:
        return boxed
    tail = text[-_TAIL:]
    anchors = list(_ANCHOR.finditer(tail))
    if anchors and (answer := _trimmed(tail[anchors[-1].end() :])):
        return answer, True
    line = tail.strip().rsplit("\n", 1)[-1]
    formulas = list(_MATH.finditer(line))
    if formulas:
        return _formula(formulas[-1]), True
    numbers = list(_NUMBER.finditer(line))
    return (numbers[-1].group(), True) if numbers else boxed
