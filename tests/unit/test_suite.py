"""How the tests themselves are laid out, and what a release has to agree on."""

import ast
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path

import asym_lightning
from tests.support import ROOT

FOLDERS = {"unit", "config", "integration", "system", "support"}
MODULES = sorted((ROOT / "tests").glob("*/test_*.py"))


def imported(file: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            yield from (name.name for name in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield str(node.module)


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
        if name.startswith("tests.") and not name.startswith("tests.support")
    ]
    assert len(MODULES) > 60 and not wrong


def test_no_test_changes_the_import_path_by_itself() -> None:
    assert not [file.name for file in MODULES if re.search(r"sys\.path\.\w+\(|sys\.path\[", file.read_text())]


def test_a_release_has_one_version() -> None:
    version = asym_lightning.__version__
    assert tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"] == version
    assert f"\nversion: {version}\n" in (ROOT / "CITATION.cff").read_text()
    newest = re.search(r"(?m)^## \[(.+?)\]", (ROOT / "CHANGELOG.md").read_text())
    assert newest and newest[1] in (version, "Unreleased")
