"""The structure of the code: imports lead downwards, files are small, importing has no effects."""

import ast
from types import ModuleType

import pytest

from tests.support import ROOT
from tests.support.scripts import script

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
    "config": {"callbacks", "metrics", "learner", "rollout", "tasks", "algorithms", "runtime"},
    "doctor": {"learner", "rollout", "algorithms", "verify", "runtime"},
    "commands": {
        *("config", "callbacks", "metrics", "learner"),
        *("rollout", "tasks", "algorithms", "runtime"),
    },
    "analysis": {"metrics", "runtime"},
}
# Modules of `python -m asym_lightning.NAME`, and the room that each one calls.
ALIASES = {"export": "commands", "serve": "rollout", "warmstart": "commands"}
ABOVE = {
    "train": "commands",
    "evaluate": "commands",
    "compare": "analysis",
    "hydra_plugins": "commands",
}
LONGEST_FILE = 350


@pytest.fixture(scope="module")
def rooms() -> ModuleType:
    return script("rooms")


def allowed(own: str) -> set[str]:
    """The rooms and modules that a room, or a module beside the rooms, may import."""
    callers = ALIASES | ABOVE
    if own in callers:
        return {callers[own], "runtime", own}
    if own in GROUND:
        return {"types"} - {own}
    return ROOMS[own] | GROUND | {own}


def test_imports_lead_downwards(rooms: ModuleType) -> None:
    wrong = []
    for file in rooms.files():
        own = rooms.room_of(file)
        if own == "__init__":
            continue
        others = {name: rooms.room(name) for name in rooms.imports(file)}
        upwards = [name for name, other in others.items() if other and other not in allowed(own)]
        wrong += [f"{file.relative_to(ROOT)}: {name}" for name in upwards]
    assert len(rooms.files()) > 100 and not wrong


def test_imports_within_functions_count(rooms: ModuleType) -> None:
    """commands/entries.py imports cli when it is called, and the check sees it."""
    file = ROOT / "asym_lightning" / "commands" / "entries.py"
    assert "asym_lightning.commands.cli.entry" in set(rooms.imports(file))


def test_the_rooms_have_an_order() -> None:
    done: set[str] = set()
    while ready := {name for name in ROOMS.keys() - done if ROOMS[name] <= done}:
        done |= ready
    assert done == set(ROOMS)


def test_few_modules_lie_beside_the_rooms(rooms: ModuleType) -> None:
    loose = {path.stem for path in (ROOT / "asym_lightning").glob("*.py")}
    assert loose == {"__init__", *GROUND, *ALIASES} and len(loose) <= 6
    assert set(rooms.rooms()) == set(ROOMS)


def test_a_room_says_in_one_sentence_what_it_is_for(rooms: ModuleType) -> None:
    for name in ROOMS:
        sentence = rooms.purpose(name)
        assert sentence[:1].isupper() and ". " not in sentence and len(sentence) < 120, name


def test_the_picture_of_the_rooms_is_current(rooms: ModuleType) -> None:
    assert rooms.TARGET.read_text() == rooms.picture(), "run `python scripts/rooms.py`"


def test_algorithms_know_no_framework(rooms: ModuleType) -> None:
    files = (ROOT / "asym_lightning" / "algorithms").glob("*.py")
    names = {name.split(".")[0] for file in files for name in rooms.imports(file)}
    assert "torch" in names
    assert not names & {"lightning", "hydra", "omegaconf", "transformers", "vllm"}


def test_files_are_small() -> None:
    """Lines are counted for all Python code; ruff refuses lines of over 100 columns."""
    places = ("asym_lightning", "callbacks", "hydra_plugins", "tests", "benchmarks", "scripts")
    files = [
        *ROOT.glob("*.py"),
        *(file for place in places for file in (ROOT / place).rglob("*.py")),
    ]
    lengths = {file: len(file.read_text().splitlines()) for file in files}
    assert len(files) > 250
    assert not [f"{file}: {n} lines" for file, n in lengths.items() if n > LONGEST_FILE]


def effects(tree: ast.Module) -> list[str]:
    """Statements that a module runs when it is imported, and that do more than name something."""
    calls = [
        node
        for node in tree.body
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Call)
    ]
    targets = [
        target for node in tree.body if isinstance(node, ast.Assign) for target in node.targets
    ]
    places = [target for target in targets if not isinstance(target, ast.Name | ast.Tuple)]
    loops = [node for node in tree.body if isinstance(node, ast.For | ast.While | ast.With)]
    return [ast.unparse(node) for node in (*calls, *places, *loops)]


def test_modules_have_no_effects_at_import(rooms: ModuleType) -> None:
    """asym_lightning.runtime.setup prepares a process, and commands call it."""
    found = {file: effects(ast.parse(file.read_text())) for file in rooms.files()}
    assert not {file: lines for file, lines in found.items() if lines}
    assert effects(ast.parse("import os\nos.environ['A'] = '1'\nprint()")) == [
        "print()",
        "os.environ['A']",
    ]
