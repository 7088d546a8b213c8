"""Private names of other libraries, and replaced attributes, stand in the modules *_patches.py."""

import ast
import importlib
import inspect
import re
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

from tests.support import ROOT
from tests.support.scripts import script

OWN = {"asym_lightning", "callbacks", "hydra_plugins", "train", "evaluate", "compare"}
PATCHES = sorted((ROOT / "asym_lightning").rglob("*_patches.py"))
PRIVATE = re.compile(r"_(?!_).*[^_]|_[^_]")  # `_name`, not `__name__` or Hydra's `_target_`
SOURCE = re.compile(
    r"Upstream: (no issue found|https://github\.com/\S+/(issues|pull)/\d+)( \(.*\))?"
)
RANGE = re.compile(r"Versions: (\S+) \(tried with (\S+)\)")
DOTTED = re.compile(r"[a-z]\w*(\.\w+)+")
ACCESS = ("getattr", "hasattr", "setattr", "delattr")
LIBRARIES = {"hydra-core": "hydra"}  # names of packages that are not those of their modules


@pytest.fixture(scope="module")
def rooms() -> ModuleType:
    return script("rooms")


def is_private(dotted: str) -> bool:
    return any(PRIVATE.fullmatch(part) for part in dotted.split("."))


def is_foreign(dotted: str) -> bool:
    """Whether a module belongs to another library; Python's own private names are documented."""
    return dotted.split(".")[0] not in OWN | sys.stdlib_module_names


def root(node: ast.expr) -> str:
    """The variable that an attribute or a call belongs to; empty if it belongs to none."""
    while isinstance(node, ast.Attribute | ast.Call):
        node = node.value if isinstance(node, ast.Attribute) else node.func
    return node.id if isinstance(node, ast.Name) else ""


def imports(tree: ast.AST) -> Iterator[tuple[str, str, bool]]:
    """Dotted name, name in the file, and whether it is of another library, of each import."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                bound = alias.asname or alias.name.split(".")[0]
                yield alias.name, bound, is_foreign(alias.name)
        elif isinstance(node, ast.ImportFrom) and node.module:
            for alias in node.names:
                dotted = f"{node.module}.{alias.name}"
                yield dotted, alias.asname or alias.name, is_foreign(node.module)


def private_uses(tree: ast.AST) -> Iterator[str]:
    """Private names that a file imports, reads from other objects than its own, or spells."""
    known = list(imports(tree))
    for dotted, _, foreign in known:
        if foreign and is_private(dotted):
            yield f"import {dotted}"
    python = {bound for dotted, bound, _ in known if dotted in sys.stdlib_module_names}
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and PRIVATE.fullmatch(node.attr):
            if root(node.value) not in python and ast.unparse(node.value) not in ("self", "cls"):
                yield ast.unparse(node)
        elif isinstance(node, ast.Call) and ast.unparse(node.func) in ACCESS and len(node.args) > 1:
            name = node.args[1]
            if isinstance(name, ast.Constant) and PRIVATE.fullmatch(str(name.value)):
                yield ast.unparse(node)
        elif isinstance(node, ast.Constant):
            text = str(node.value)
            if DOTTED.fullmatch(text) and is_private(text):
                yield repr(text)


def replaced(tree: ast.AST) -> Iterator[str]:
    """Attributes of other libraries' modules and classes, and methods, that a file assigns to."""
    foreign = {bound for _, bound, foreign in imports(tree) if foreign}
    kinds = ast.FunctionDef | ast.AsyncFunctionDef
    functions = {node.name for node in ast.walk(tree) if isinstance(node, kinds)}
    for node in ast.walk(tree):
        if not isinstance(node, ast.Assign | ast.AugAssign):
            continue
        function = isinstance(node.value, ast.Lambda) or (
            isinstance(node.value, ast.Name) and node.value.id in functions
        )
        for target in node.targets if isinstance(node, ast.Assign) else [node.target]:
            if isinstance(target, ast.Subscript):
                place, method = target.value, False
            else:
                place, method = target, function
            if not isinstance(place, ast.Attribute) or ast.unparse(place.value) == "self":
                continue
            # A class decorator replaces the __init__ of the class that it is given.
            of_decorator = place.attr == "__init__" and root(place) not in foreign
            if root(place) in foreign or (method and not of_decorator):
                yield ast.unparse(node)


def names_of_library(base: type[Any]) -> set[str]:
    """Private names that a class has, or gives its objects."""
    try:
        given = set(re.findall(r"self\.(_\w+)", inspect.getsource(base)))
    except (OSError, TypeError):  # written in C
        given = set()
    names = given | set(vars(base)) | set(getattr(base, "__annotations__", {}))
    return {name for name in names if PRIVATE.fullmatch(name)}


def inherited_uses(module: ModuleType, tree: ast.AST) -> Iterator[str]:
    """Private names that classes of a file share with the classes of libraries that they extend."""
    for node in ast.walk(tree):
        kind = getattr(module, node.name, None) if isinstance(node, ast.ClassDef) else None
        if not isinstance(kind, type):
            continue
        bases = [base for base in kind.__mro__ if is_foreign(base.__module__)]
        library: set[str] = set().union(*map(names_of_library, bases))
        for inner in ast.walk(node):
            name = getattr(inner, "attr", "") or getattr(inner, "name", "")
            if name in library:
                yield f"{kind.__name__}: {name}"


def test_private_names_of_libraries_stand_in_one_module_for_each(rooms: ModuleType) -> None:
    trees = {file: ast.parse(file.read_text()) for file in rooms.files() if file not in PATCHES}
    assert len(trees) > 100 and len(PATCHES) >= 8
    found = {file: [*private_uses(tree), *replaced(tree)] for file, tree in trees.items()}
    assert not {str(file.relative_to(ROOT)): uses for file, uses in found.items() if uses}


def test_classes_share_no_private_name_with_the_libraries_that_they_extend(
    rooms: ModuleType,
) -> None:
    wrong, extended = [], 0
    for file in set(rooms.files()) - set(PATCHES):
        tree = ast.parse(file.read_text())
        classes = [node for node in ast.walk(tree) if isinstance(node, ast.ClassDef)]
        # A base is a name that the file imports; those of Python have nothing to do with it.
        bound = {name for dotted, name, _ in imports(tree) if dotted.split(".")[0] != "typing"}
        if not any(root(base) in bound for node in classes for base in node.bases):
            continue
        name = ".".join(file.relative_to(ROOT).with_suffix("").parts)
        uses = inherited_uses(importlib.import_module(name), tree)
        wrong += [f"{file.relative_to(ROOT)}: {use}" for use in uses]
        extended += 1
    assert extended > 20 and not wrong


@pytest.mark.parametrize(
    ("code", "seen"),
    [
        ("from hydra._internal.utils import get_args_parser", "import hydra._internal.utils"),
        ("from torch import _foreach_norm", "import torch._foreach_norm"),
        ("import torch\ntorch._foreach_norm([])", "torch._foreach_norm"),
        ("def f(group):\n    return group._get_backend()", "group._get_backend"),
        ("def f(model):\n    return getattr(model, '_no_split_modules')", "_no_split_modules"),
        ("NAME = 'torch.distributed.tensor._redistribute'", "torch.distributed.tensor"),
    ],
)
def test_a_private_name_is_seen(code: str, seen: str) -> None:
    (found,) = private_uses(ast.parse(code))
    assert seen in found


@pytest.mark.parametrize(
    "code",
    [
        "import datasets\ndatasets.config.HF_HUB_OFFLINE = True",
        "import deepspeed.ops\ndeepspeed.ops.OPS['shm'] = False",
        "def f(policy):\n    policy.score = lambda batch: batch",
        "def f(llm):\n    def step():\n        pass\n    llm.engine.step = step",
    ],
)
def test_a_replaced_attribute_is_seen(code: str) -> None:
    assert len(list(replaced(ast.parse(code)))) == 1


def test_names_of_ones_own_are_left_alone() -> None:
    code = """
import os, sys
from asym_lightning.verify.jail import _WRITING
class A:
    def __init__(self):
        self._known = lambda: 1
    def end(self):
        self.config._target_ = sys._current_frames()
        os._exit(self._known())
"""
    assert not [*private_uses(ast.parse(code)), *replaced(ast.parse(code))]


def test_an_overridden_private_method_is_seen() -> None:
    code = "class Own(ast.NodeVisitor):\n    def _known(self):\n        self._other()\n"
    base = type("Base", (), {"_known": None, "_other": None, "__module__": "torch"})
    module = ModuleType("own")
    module.Own = type("Own", (base,), {})  # type: ignore[attr-defined]
    assert list(inherited_uses(module, ast.parse(code))) == ["Own: _known", "Own: _other"]


def entries(file: Path) -> list[ast.FunctionDef | ast.ClassDef]:
    body = ast.parse(file.read_text()).body
    return [node for node in body if isinstance(node, ast.FunctionDef | ast.ClassDef)]


ENTRIES = [(file, node) for file in PATCHES for node in entries(file)]


@pytest.mark.parametrize(
    ("file", "node"), ENTRIES, ids=[f"{file.stem}.{node.name}" for file, node in ENTRIES]
)
def test_a_patch_has_its_reason_its_source_its_versions_and_a_test(
    file: Path, node: ast.FunctionDef | ast.ClassDef
) -> None:
    text = ast.get_docstring(node) or ""
    assert re.search(r"^(Needed|.* Needed) ", text, re.MULTILINE), "why it is needed"
    lines = text.splitlines()
    assert any(SOURCE.fullmatch(line) for line in lines), "where upstream knows of it"
    (versions,) = [found for line in lines if (found := RANGE.fullmatch(line))]
    wanted, tried = Requirement(versions[1]), versions[2]
    assert file.stem == f"{LIBRARIES.get(wanted.name, wanted.name)}_patches"
    assert wanted.specifier.contains(tried)
    assert wanted.specifier in declared(wanted.name) or not any(declared(wanted.name))
    tests = [path.read_text() for path in (ROOT / "tests" / "unit").glob("test_*_patches.py")]
    assert any(re.search(rf"\b{node.name}\b", text) for text in tests)


def declared(package: str) -> list[SpecifierSet]:
    """The ranges of a package's versions in pyproject.toml."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"].values()
    lines = [*project["dependencies"], *(line for extra in extras for line in extra)]
    wanted = [Requirement(line) for line in lines]
    return [line.specifier for line in wanted if line.name == package]
