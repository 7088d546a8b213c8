"""Which room of the code may import which: only those below it. Imports for types alone do not count."""

import ast
from collections.abc import Iterator
from pathlib import Path

from tests.support import ROOT

GROUND = {"types", "checks"}  # every room may import these two modules
ROOMS: dict[str, set[str]] = {
    "runtime": set(),
    "algorithms": set(),
    "verify": {"runtime"},
    "tasks": {"verify", "runtime"},
    "rollout": {"tasks", "verify", "runtime"},
    "learner": {"algorithms", "tasks", "runtime"},
    "metrics": {"learner", "tasks", "runtime"},
    "callbacks": {"metrics", "learner", "rollout", "verify", "tasks", "runtime"},
    "config": {"metrics", "learner", "rollout", "tasks", "algorithms", "runtime"},
    "doctor": {"learner", "rollout", "algorithms", "verify", "runtime"},
    "commands": {"config", "metrics", "learner", "rollout", "tasks", "algorithms", "runtime"},
    "analysis": {"config", "runtime"},
}
ALIASES = {"export": "commands", "serve": "rollout", "warmstart": "commands"}  # of `python -m asym_lightning.NAME`
ABOVE = {"train": "commands", "evaluate": "commands", "compare": "analysis", "hydra_plugins": "commands"}
FILES = [
    *(file for place in ("asym_lightning", "callbacks", "hydra_plugins") for file in (ROOT / place).rglob("*.py")),
    *(ROOT / f"{name}.py" for name in ("train", "evaluate", "compare")),
]


def imported(file: Path) -> Iterator[str]:
    """Dotted names that a file imports, within functions too."""
    tree = ast.parse(file.read_text())
    typing = [node for node in ast.walk(tree) if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"]
    skipped = {id(inner) for node in typing for outer in node.body for inner in ast.walk(outer)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import) and id(node) not in skipped:
            yield from (name.name for name in node.names)
        elif isinstance(node, ast.ImportFrom) and id(node) not in skipped:
            assert node.level == 0, f"{file}: relative import"
            yield from (f"{node.module}.{name.name}" for name in node.names)


def room(name: str) -> str | None:
    """The room, or the module beside the rooms, that a dotted name belongs to; none for other packages."""
    first, second, *_ = [*name.split("."), ""]
    if first == "asym_lightning":
        return second
    return first if first in {"callbacks", *ABOVE} else None


def allowed(own: str) -> set[str]:
    """What a room, or a module beside the rooms, may import."""
    above = ALIASES | ABOVE
    if own in above:
        return {above[own], "runtime", own}
    return set() if own == "types" else {"types"} if own == "checks" else ROOMS[own] | GROUND | {own}


def test_imports_lead_downwards() -> None:
    wrong = []
    for file in FILES:
        own = room(".".join(file.relative_to(ROOT).with_suffix("").parts))
        assert own is not None
        for name in imported(file) if own != "__init__" else ():
            other = room(name)
            if other is not None and other not in allowed(own):
                wrong.append(f"{file.relative_to(ROOT)}: {name}")
    assert len(FILES) > 100 and not wrong


def test_the_rooms_have_an_order() -> None:
    done: set[str] = set()
    while ready := {name for name, below in ROOMS.items() if name not in done and below <= done}:
        done |= ready
    assert done == set(ROOMS)


def test_few_modules_lie_beside_the_rooms() -> None:
    package = ROOT / "asym_lightning"
    assert {path.stem for path in package.glob("*.py")} == {"__init__", *GROUND, *ALIASES}
    assert {path.name for path in package.iterdir() if any(path.glob("*.py"))} == set(ROOMS) - {"callbacks"}


def test_a_room_says_in_one_sentence_what_it_is_for() -> None:
    for name in set(ROOMS) - {"callbacks"}:
        text = ast.get_docstring(ast.parse((ROOT / "asym_lightning" / name / "__init__.py").read_text()))
        assert text and text.split(":")[0][:1].isupper() and ". " not in text, name


def test_algorithms_know_no_framework() -> None:
    names = {name.split(".")[0] for file in (ROOT / "asym_lightning" / "algorithms").glob("*.py") for name in imported(file)}
    assert "torch" in names and not names & {"lightning", "hydra", "omegaconf", "transformers", "vllm"}
