"""Calls of the project's own functions and classes name every argument after the third."""

import ast
from collections.abc import Iterator
from types import ModuleType

import pytest

from tests.support import ROOT
from tests.support.scripts import script

POSITIONAL = 3
ALLOWED = {"flash"}  # a kernel, and queries, keys and values


@pytest.fixture(scope="module")
def rooms() -> ModuleType:
    return script("rooms")


def own_names(tree: ast.AST) -> set[str]:
    """Functions and classes that a file defines or imports from the project."""
    kinds = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef
    names = {node.name for node in ast.walk(tree) if isinstance(node, kinds)}
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom):
            package = str(node.module).split(".")[0]
            if package in ("asym_lightning", "callbacks"):
                names |= {alias.asname or alias.name for alias in node.names}
    return names


def long_calls(tree: ast.AST) -> Iterator[str]:
    """Calls of such names, directly or as a method of ``self``, with too many bare arguments."""
    names = own_names(tree) - ALLOWED
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call) or len(node.args) <= POSITIONAL:
            continue
        called = node.func
        name = called.id if isinstance(called, ast.Name) else ""
        if isinstance(called, ast.Attribute) and ast.unparse(called.value) == "self":
            name = called.attr
        if name in names and not any(isinstance(given, ast.Starred) for given in node.args):
            yield f"{node.lineno}: {ast.unparse(node)[:80]}"


def test_arguments_after_the_third_are_named(rooms: ModuleType) -> None:
    files = rooms.files()
    found = {file: list(long_calls(ast.parse(file.read_text()))) for file in files}
    assert not {str(file.relative_to(ROOT)): calls for file, calls in found.items() if calls}


def test_a_call_with_four_bare_arguments_is_seen() -> None:
    code = "def f(a, b, c, d):\n    return f(1, 2, 3, 4), f(1, 2, 3, d=4), max(1, 2, 3, 4)\n"
    assert list(long_calls(ast.parse(code))) == ["2: f(1, 2, 3, 4)"]
