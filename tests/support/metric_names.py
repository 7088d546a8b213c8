"""Names of metrics on docs/metrics.md and in the code."""

import ast
import re
from fnmatch import fnmatchcase
from functools import cache

from tests.support import ROOT

# These become rates before anything is written.
INTERNAL = {f"throughput/{name}" for name in ("generated_tokens", "learned_tokens", "flops")}
SOURCES = [*(ROOT / "asym_lightning").rglob("*.py"), *(ROOT / "callbacks").rglob("*.py")]
NAME = re.compile(r"[a-z_]+(/[a-z0-9_@*]+)+")


def expand(name: str) -> list[str]:
    """The names that a name stands for: `a/{b,c}` is two, and a placeholder as `{edge}` is `*`."""
    choice = re.search(r"\{([^{}]+,[^{}]+)\}", name)
    if choice is None:
        return [re.sub(r"\{\w+\}", "*", name)]
    names = []
    for part in choice.group(1).split(","):
        names += expand(name.replace(choice.group(), part.strip(), 1))
    return names


@cache
def documented() -> tuple[str, ...]:
    """The names in the first column of the page's tables."""
    cells = re.findall(r"(?m)^\| (`[^|]+?) \|", (ROOT / "docs" / "metrics.md").read_text())
    names = [name for cell in cells for name in re.findall(r"`([^`]+)`", cell)]
    return tuple(full for name in names for full in expand(name))


@cache
def written() -> frozenset[str]:
    """Every metric name in the code; the fields of an f-string are `*`.

    A metric name is in one of the page's groups, or is an argument of a meter's method.
    """
    groups = {name.split("/")[0] for name in documented()}
    names = set()
    for source in SOURCES:
        for node in ast.walk(ast.parse(source.read_text())):
            method = getattr(node.func, "attr", "") if isinstance(node, ast.Call) else ""
            if method in ("mean", "maximum") and node.args:
                names.add(text(node.args[0]))
            name = text(node)
            if name.split("/")[0] in groups:
                names.add(name)
    return frozenset(name for name in names if NAME.fullmatch(name)) - INTERNAL


def text(node: ast.AST) -> str:
    """A string of the source, or an f-string with `*` for its fields; empty for other nodes."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return node.value
    if isinstance(node, ast.JoinedStr):
        parts = [str(v.value) if isinstance(v, ast.Constant) else "*" for v in node.values]
        return "".join(parts)
    return ""


def same(name: str, other: str) -> bool:
    """Whether two names, each perhaps with `*`, can be the same."""
    return fnmatchcase(name, other) or fnmatchcase(other, name)
