"""The documentation's pages, code blocks and command lines."""

import re
import shlex

from tests.support import ROOT

DOCS = ROOT / "docs"
PAGES = sorted(str(path.relative_to(DOCS)) for path in DOCS.rglob("*.md"))
TEXTS = ["../README.md", *PAGES]


def blocks(page: str) -> list[tuple[str, str, str]]:
    """(language, title, text) of every fenced block of a page."""
    return re.findall(r'(?ms)^```(\w+)(?: title="([^"]+)")?\n(.*?)^```', (DOCS / page).read_text())


def commands(page: str) -> list[list[str]]:
    """The command lines of a page, split into words, without comments and variables.

    A backslash at the end of a line joins it with the next.
    """
    scripts = [text for language, _, text in blocks(page) if language == "bash"]
    lines = [line for text in scripts for line in text.replace("\\\n", " ").splitlines()]
    found = []
    for line in lines:
        words = shlex.split(line, comments=True)
        if words:
            start = next(i for i, word in enumerate(words) if not re.match(r"[A-Z_]+=", word))
            found.append(words[start:])
    return found


EXAMPLES = ["extend/method.md", "extend/task.md", "extend/verifier.md", "extend/model.md"]
