"""The documentation's examples: they are complete and run."""

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.support.pages import EXAMPLES, blocks, commands
from tests.support.runs import random_policy, run


@pytest.fixture
def example(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Path:
    """A folder with the files of a page; the page's tests and other Python code have run there."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    known = set(sys.modules)
    for language, title, text in blocks(request.param):
        if title:
            (tmp_path / title).parent.mkdir(exist_ok=True)
            (tmp_path / title).write_text(text)
            # Another test may have a module of that name.
            monkeypatch.delitem(sys.modules, Path(title).stem, raising=False)
        elif language == "python":
            exec(compile(text, request.param, "exec"), {})
    for path in tmp_path.glob("test_*.py"):
        names: dict[str, Any] = {}
        exec(compile(path.read_text(), path.name, "exec"), names)
        tests = [value for name, value in names.items() if name.startswith("test_")]
        assert len(tests) > 0
        for test in tests:
            test()
    yield tmp_path  # type: ignore[misc]
    for name in set(sys.modules) - known:
        if str(getattr(sys.modules[name], "__file__", None) or "").startswith(str(tmp_path)):
            del sys.modules[name]


@pytest.mark.parametrize("example", EXAMPLES, indirect=True)
def test_examples_are_complete_and_run(
    example: Path, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = request.node.callspec.params["example"]
    lines = [words for words in commands(page) if words[:2] == ["python", "train.py"]]
    assert lines
    for i, words in enumerate(lines):
        overrides = [word for word in words[2:] if word not in ("--config-dir", "FOLDER")]
        given = [word.replace("FOLDER", str(example)) for word in overrides]
        if f"policy.path={example}" in given:
            continue  # the line that shows the key alone
        policy = []
        if "policy=hf" not in given:
            policy.append(f"policy.path={random_policy(example / 'policy')}")
        folder = example / f"run-{i}"
        run(monkeypatch, example, *policy, "trainer.max_epochs=1", *given, into=folder)
        assert json.loads((folder / "summary.json").read_text())["status"] == "done"
