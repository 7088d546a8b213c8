"""The place of the answer in a completion.

Plain string work: no text is parsed as mathematics, and no search takes more than linear time.
"""

import re
from itertools import islice, pairwise

_EMPTY_BOX = re.compile(r"\\(?:boxed|fbox) ?\{\s{0,9}\}")
_BOXES = ("\\boxed", "\\fbox")
# Between the boxes of an answer in the text for the worker.
BETWEEN_BOXES = "\n\x00"
# Characters at the end of a completion in which anchors are searched.
_TAIL = 20_000
# Formulas or numbers of a list that are looked at.
_MOST = 20
_ANCHOR = re.compile(
    r"(?i)\banswer(?: to [^.:\n]{1,80})?(?:\*\*|\s){0,3}(?::|\bis\b|=)(?:\*\*|\s){0,3}:?|####"
)
_MATH = re.compile(
    r"\$\$([^$]{1,2000})\$\$|\$([^$\n]{1,2000})\$|\\\(([^\n]{1,2000}?)\\\)|\\\[(.{1,2000}?)\\\]",
    re.DOTALL,
)
_NUMBER = re.compile(
    r"[-+]?\\?\$?\d(?:[\d,]*\d)?(?: \d{3}(?!\d))*(?:\.\d+)?(?:[eE][-+]?\d{1,4})?"
    r"(?: \d+(?=/))?(?: ?/ ?\d+)?(?: ?\\?%)?"
)
# Text after a number that makes it a part of an expression, of a longer number or of a list.
_CONTINUED = re.compile(
    r"[\^_({\\!:]|\s*[-+*/^=<>]|[A-Za-z]\b|\.\d|\s+\d|,?\s*(?:and|or)\s*[-\d$\\]|,\s*[-\d$\\]"
)
# Text before a number that makes it a part of an expression.
_WITHIN = re.compile(r"[\^_/*]\s*(?:\{\s*)?$|(?<!boxed)(?<!boxed )\{\s*$")
_LINK = re.compile(r"\s{0,3}(?:,\s{0,3})?(?:\b(?:and|or)\b)?\s{0,3}")
_BETWEEN = re.compile(r"[\s$,;.&]{0,10}(?:and|or|\\text\{ ?(?:and|or) ?\})?[\s$,;]{0,10}")


def _last_box(text: str, end: int) -> int:
    """Return the place of the last ``\\boxed`` or ``\\fbox`` before ``end``, or -1."""
    return max(text.rfind(box, 0, end) for box in _BOXES)


def _box_at(text: str, start: int) -> tuple[str | None, int]:
    """Return the content of the box at ``start`` and its end in ``text``.

    The content is ``None`` if the box never closes.
    """
    after = at = start + (len(_BOXES[0]) if text.startswith(_BOXES[0], start) else len(_BOXES[1]))
    while at < len(text) and text[at].isspace():
        at += 1
    if text[at : at + 1] != "{":
        single = text[at:].split("$", 1)[0].split("\n", 1)[0].strip().rstrip(".")
        return (single if at > after else None), at + len(single)
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


def _outermost(text: str, start: int) -> int:
    """Return the place of the box that holds the box at ``start``, or ``start``.

    The answer of ``\\boxed{2 + \\boxed{3}}`` is no 3.
    """
    outer, before = start, start
    for _ in range(_MOST):
        before = _last_box(text, before)
        if before < 0:
            break
        content, end = _box_at(text, before)
        if content is not None and end > start:
            outer = before
    return outer


def _peeled(content: str | None) -> str | None:
    """Return the content of a box without boxes around all of it."""
    for _ in range(_MOST):
        if content is None or not content.startswith(_BOXES):
            break
        inner, end = _box_at(content, 0)
        if inner is None or end < len(content):
            break
        content = inner
    return content


def last_boxed(text: str) -> tuple[str | None, bool]:
    """Return the content of the last ``\\boxed{}`` and whether there is a box at all.

    ``(None, True)`` is a box that never closes. Braces are balanced, escaped ones do not count.
    ``\\boxed 5`` boxes the text up to the end of the formula, as in LaTeX sources of MATH.
    """
    start = _last_box(text, len(text))
    return (
        (None, False) if start < 0 else (_peeled(_box_at(text, _outermost(text, start))[0]), True)
    )


def last_boxes(text: str, limit: int = 20) -> list[str]:
    """Return the boxes at the end that only "and", "or" and commas separate, at most ``limit``.

    E.g. both boxes of ``x = \\boxed{1}$ or $\\boxed{2}``.
    """
    contents: list[str] = []
    after = len(text)
    while len(contents) < limit:
        start = _last_box(text, after)
        if start < 0:
            break
        start = _outermost(text, start)
        content, end = _box_at(text, start)
        content = _peeled(content)
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


def _linked(text: str, matches: list[re.Match[str]]) -> list[re.Match[str]]:
    """Return the first matches of a list, as far as only commas, "and" and "or" part them."""
    for i, (match, after) in enumerate(pairwise(matches), start=1):
        between = text[match.end() : after.start()]
        if not between.strip() or _LINK.fullmatch(between) is None:
            return matches[:i]
    return matches


def _trimmed(text: str) -> str:
    """Return the answer in the text after an anchor.

    It is the first formula, if it begins in the first line, with those that only commas, "and" and
    "or" part from it. Else it is the leading number of that line, unless that goes on as a list or
    an expression, else the first sentence of it.
    """
    line = text.strip().split("\n", 1)[0].strip().strip("*").strip()
    formulas = list(islice(_MATH.finditer(text[:3000]), _MOST))
    if formulas and text.find(formulas[0].group()) <= text.find(line) + len(line):
        return ", ".join(_formula(match) for match in _linked(text, formulas))
    number = _NUMBER.match(line)
    if number is not None and not _CONTINUED.match(line[number.end() :]):
        return number.group()
    return re.split(r"\.\s|\.$", line, maxsplit=1)[0].strip().rstrip(".*").strip()


def _ending(line: str, matches: list[re.Match[str]]) -> list[re.Match[str]]:
    """Return the last matches of a line that only commas, "and" and "or" part."""
    first = len(matches) - 1
    while first > 0 and len(matches) - first < _MOST:
        between = line[matches[first - 1].end() : matches[first].start()]
        if not between.strip() or _LINK.fullmatch(between) is None:
            break
        first -= 1
    return matches[first:]


def lenient(text: str) -> tuple[str | None, bool]:
    """Return the answer of a model that was never told to box it, for evaluation.

    As ``last_boxed``, and an empty box counts for nothing. Without a box: the text after the last
    "answer is", "answer:" or "####", else the formulas or the numbers that end the last line.
    """
    text = _EMPTY_BOX.sub("", text)
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
        return ", ".join(_formula(match) for match in _ending(line, formulas)), True
    numbers = [
        match
        for match in _NUMBER.finditer(line)
        if _WITHIN.search(line[max(0, match.start() - 9) : match.start()]) is None
        and line[match.end() : match.end() + 1] not in tuple("^_!")
    ]
    found = ", ".join(match.group() for match in _ending(line, numbers))
    return (found, True) if numbers else boxed
