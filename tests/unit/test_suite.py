"""The layout of the tests, and the version of a release."""

import ast
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path

import asym_lightning
from tests.support import ROOT

FOLDERS = {"unit", "config", "integration", "system", "support"}
MODULES = sorted((ROOT / "tests").rglob("*.py"))


def imported(file: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            yield from (name.name for name in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield "." * node.level + str(node.module)


def changes_path(tree: ast.AST) -> bool:
    """Whether the code calls a method of ``sys.path``, or assigns to it."""
    changed: list[ast.expr] = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            changed.append(node.func.value)
        elif isinstance(node, ast.Assign):
            changed += node.targets
    places = [place.value if isinstance(place, ast.Subscript) else place for place in changed]
    return any(ast.unparse(place) == "sys.path" for place in places)


def test_every_test_lies_in_a_folder_that_has_a_marker() -> None:
    """`make check` and the other selections by folder would leave out tests of another folder."""
    tests = ROOT / "tests"
    paths = [path.relative_to(tests) for path in tests.rglob("*.py") if path.parent != tests]
    assert {path.parts[0] for path in paths} == FOLDERS
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    markers = project["tool"]["pytest"]["ini_options"]["markers"]
    assert {marker.partition(":")[0] for marker in markers} >= FOLDERS - {"support"}
    assert not list((ROOT / "tests").glob("test_*.py"))
    assert not list((ROOT / "tests" / "support").glob("test_*.py"))


def test_no_test_module_imports_another() -> None:
    wrong = []
    for file in MODULES:
        for name in imported(file):
            of_tests = name.split(".")[0] == "tests" and not name.startswith("tests.support")
            if of_tests or name.startswith("."):
                wrong.append(f"{file.relative_to(ROOT)}: {name}")
    assert len(MODULES) > 60 and not wrong


def test_no_test_changes_the_import_path_by_itself() -> None:
    files = [file for file in MODULES if file.name != "preloaded.py"]
    assert not [file for file in files if changes_path(ast.parse(file.read_text()))]
    assert changes_path(ast.parse("import sys\nsys.path.append('x')"))
    assert changes_path(ast.parse("sys.path[:] = []"))


def test_a_release_has_one_version() -> None:
    version = asym_lightning.__version__
    assert tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"] == version
    assert f"\nversion: {version}\n" in (ROOT / "CITATION.cff").read_text()
    newest = re.search(r"(?m)^## \[(.+?)\]", (ROOT / "CHANGELOG.md").read_text())
    assert newest and newest[1] in (version, "Unreleased")
