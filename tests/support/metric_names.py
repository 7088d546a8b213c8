"""Names of metrics on docs/metrics.md and in the code."""

import ast
import re
from fnmatch import fnmatchcase
from functools import cache

from tests.support import ROOT

INTERNAL = {f"throughput/{name}" for name in ("generated_tokens", "learned_tokens", "flops")}  # become rates before anything is written
SOURCES = [*(ROOT / "asym_lightning").rglob("*.py"), *(ROOT / "callbacks").rglob("*.py")]
NAME = re.compile(r"[a-z_]+(/[a-z0-9_@*]+)+")


def expand(name: str) -> list[str]:
    """`a/{b,c}` as two names, a placeholder such as `{edge}` as `*`."""
    choice = re.search(r"\{([^{}]+,[^{}]+)\}", name)
    if choice is None:
        return [re.sub(r"\{\w+\}", "*", name)]
    return [full for part in choice.group(1).split(",") for full in expand(name.replace(choice.group(), part.strip(), 1))]


@cache
def documented() -> tuple[str, ...]:
    """The names in the first column of the page's tables."""
    cells = re.findall(r"(?m)^\| (`[^|]+?) \|", (ROOT / "docs" / "metrics.md").read_text())
    return tuple(full for cell in cells for name in re.findall(r"`([^`]+)`", cell) for full in expand(name))


@cache
def written() -> frozenset[str]:
    """Every name in the code that is in one of the page's groups, or is given to a meter; what an f-string fills in is `*`."""
    groups = {name.split("/")[0] for name in documented()}
    found = set()
    for source in SOURCES:
        for node in ast.walk(ast.parse(source.read_text())):
            given = node.args[0] if isinstance(node, ast.Call) and node.args else None
            if given is not None and isinstance(node, ast.Call) and getattr(node.func, "attr", "") in ("mean", "maximum"):
                found.add(text(given))  # whatever its group
            found |= {name for name in [text(node)] if name.split("/")[0] in groups}
    return frozenset(name for name in found if NAME.fullmatch(name)) - INTERNAL


def text(node: ast.AST) -> str:
    """A string or f-string of the source, what is filled in as `*`; empty for anything else."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return node.value
    if isinstance(node, ast.JoinedStr):
        return "".join(str(part.value) if isinstance(part, ast.Constant) else "*" for part in node.values)
    return ""


def same(one: str, other: str) -> bool:
    """Whether two names, either with `*`, can be one."""
    return fnmatchcase(one, other) or fnmatchcase(other, one)
