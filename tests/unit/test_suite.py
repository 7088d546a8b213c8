"""How the tests themselves are laid out, and what a release has to agree on."""

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
    """Whether a method of ``sys.path`` is called, or it is assigned to."""
    called = [node.func.value for node in ast.walk(tree) if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)]
    assigned = [target for node in ast.walk(tree) if isinstance(node, ast.Assign) for target in node.targets]
    places = [place.value if isinstance(place, ast.Subscript) else place for place in (*called, *assigned)]
    return any(ast.unparse(place) == "sys.path" for place in places)


def test_every_test_lies_in_a_folder_that_has_a_marker() -> None:
    """Another folder would be in neither `make check` nor any other selection by folder."""
    found = {path.relative_to(ROOT / "tests").parts[0] for path in (ROOT / "tests").rglob("*.py") if path.parent != ROOT / "tests"}
    assert found == FOLDERS
    markers = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["pytest"]["ini_options"]["markers"]
    assert {marker.partition(":")[0] for marker in markers} >= FOLDERS - {"support"}
    assert not list((ROOT / "tests").glob("test_*.py")) and not list((ROOT / "tests" / "support").glob("test_*.py"))


def test_no_test_module_imports_another() -> None:
    wrong = [
        f"{file.relative_to(ROOT)}: {name}"
        for file in MODULES
        for name in imported(file)
        if name.startswith(".") or (name.split(".")[0] == "tests" and not name.startswith("tests.support"))
    ]
    assert len(MODULES) > 60 and not wrong


def test_no_test_changes_the_import_path_by_itself() -> None:
    assert [file.name for file in MODULES if file.name != "preloaded.py" and changes_path(ast.parse(file.read_text()))] == []
    assert changes_path(ast.parse("import sys\nsys.path.append('x')")) and changes_path(ast.parse("sys.path[:] = []"))


def test_a_release_has_one_version() -> None:
    version = asym_lightning.__version__
    assert tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"] == version
    assert f"\nversion: {version}\n" in (ROOT / "CITATION.cff").read_text()
    newest = re.search(r"(?m)^## \[(.+?)\]", (ROOT / "CHANGELOG.md").read_text())
    assert newest and newest[1] in (version, "Unreleased")
