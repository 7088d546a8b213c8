"""Where the answer stands in a completion. Plain string work: nothing is parsed as mathematics, nothing takes more than linear time."""

import re

_BOX = "\\boxed"
_TAIL = 20_000  # characters at the end that anchors are looked for in
_ANCHOR = re.compile(r"(?i)\banswer(?: to [^.:\n]{1,80})?(?:\*\*|\s){0,3}(?::|\bis\b|=)(?:\*\*|\s){0,3}:?|####")
_MATH = re.compile(r"\$\$([^$]{1,2000})\$\$|\$([^$\n]{1,2000})\$|\\\(([^\n]{1,2000}?)\\\)|\\\[(.{1,2000}?)\\\]", re.DOTALL)
_NUMBER = re.compile(r"[-+]?\\?\$?\d(?:[\d,]*\d)?(?:\.\d+)?(?: ?/ ?\d+)?(?: ?\\?%)?")
_BETWEEN = re.compile(r"[\s$,;.&]{0,10}(?:and|or|\\text\{ ?(?:and|or) ?\})?[\s$,;]{0,10}")


def _box_at(text: str, start: int) -> tuple[str | None, int]:
    """Content of the ``\\boxed`` at ``start`` (``None`` if it never closes) and where it ends."""
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
    """Content of the last ``\\boxed{}`` and whether there is a box at all: ``(None, True)`` is a box that never closes.

    Braces are balanced, escaped ones do not count; ``\\boxed 5`` boxes what follows to the end of the formula, as in LaTeX sources of MATH.
    """
    start = text.rfind(_BOX)
    return (None, False) if start < 0 else (_box_at(text, start)[0], True)


def last_boxes(text: str, most: int = 20) -> list[str]:
    """The boxes at the end that only "and", "or" and commas stand between, e.g. those of ``x = \\boxed{1}$ or $\\boxed{2}``."""
    found: list[str] = []
    after = len(text)
    while len(found) < most:
        start = text.rfind(_BOX, 0, after)
        if start < 0:
            break
        content, end = _box_at(text, start)
        if content is None or (found and (end > after or _BETWEEN.fullmatch(text, end, after) is None)):
            break
        found.insert(0, content)
        after = start
    return found


def _trimmed(text: str) -> str:
    """What an anchor is followed by, as an answer: its first formula, or its leading number, or its first sentence."""
    line = text.strip().split("\n", 1)[0].strip().strip("*").strip()
    formula = _MATH.search(text[:3000])
    if formula is not None and text.find(formula.group()) <= text.find(line) + len(line):
        return next(part for part in formula.groups() if part is not None).strip()
    number = _NUMBER.match(line)
    if number is not None and not re.match(r"[\^_({\\!]|\s*[-+*/^=<>]|[A-Za-z]\b", line[number.end() :]):
        return number.group()
    return re.split(r"\.\s|\.$", line, maxsplit=1)[0].strip().rstrip(".*").strip()


def lenient(text: str) -> tuple[str | None, bool]:
    """As ``last_boxed``; without a box that holds something, what follows the last "answer is", "answer:" or "####", else the last
    formula or the last number of the last line. For evaluating models that were never told to box."""
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
        return next(part for part in formulas[-1].groups() if part is not None).strip(), True
    numbers = list(_NUMBER.finditer(line))
    return (numbers[-1].group(), True) if numbers else boxed
