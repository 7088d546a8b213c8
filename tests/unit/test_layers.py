"""Which part of the code may import which: only what lies below it. Imports for types alone do not count."""

import ast
from collections.abc import Iterator
from pathlib import Path

from tests.support import ROOT

TOP = "the modules of asym_lightning itself"  # these, evaluation, doctor, analysis and assets may import each other
LAYERS = (
    {"train", "evaluate", "compare", "hydra_plugins"},
    {"callbacks"},
    {TOP},
    {"rollout", "metrics"},
    {"tasks"},
    {"verify", "algorithms"},
    {"ops", "watch"},
    {"checks"},
    {"types"},
)
DEPTH = {name: depth for depth, names in enumerate(LAYERS) for name in names}
FILES = [file for place in ("asym_lightning", "callbacks", "hydra_plugins") for file in (ROOT / place).rglob("*.py")] + [*ROOT.glob("*.py")]


def imported(file: Path) -> Iterator[str]:
    """Dotted names that a file imports, within functions too."""
    tree = ast.parse(file.read_text())
    typing = [node for node in ast.walk(tree) if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"]
    skipped = {id(inner) for node in typing for outer in node.body for inner in ast.walk(outer)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import) and id(node) not in skipped:
            yield from (name.name for name in node.names)
        elif isinstance(node, ast.ImportFrom) and id(node) not in skipped:
            yield from (f"{node.module}.{name.name}" for name in node.names)


def part(name: str) -> str | None:
    """The part of the code that a dotted name belongs to; none for other packages."""
    first, second, *_ = [*name.split("."), ""]
    if first == "asym_lightning":
        return second if second in DEPTH else TOP
    return first if first in DEPTH else None


def test_imports_lead_downwards() -> None:
    wrong = []
    for file in FILES:
        own = part(".".join(file.relative_to(ROOT).with_suffix("").parts))
        for name in imported(file):
            other = part(name)
            if own and other and own != other and DEPTH[own] >= DEPTH[other]:
                wrong.append(f"{file.relative_to(ROOT)}: {name}")
    assert len(FILES) > 100 and not wrong


def test_algorithms_know_no_framework() -> None:
    names = {name.split(".")[0] for file in (ROOT / "asym_lightning" / "algorithms").glob("*.py") for name in imported(file)}
    assert "torch" in names and not names & {"lightning", "hydra", "omegaconf", "transformers", "vllm"}
