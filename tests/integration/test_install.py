"""The install script and make as commands."""

import json
import os
import shutil
import subprocess
import sys

import pytest

from tests.support import ROOT


def test_the_import_check_leaves_bytecode_where_python_itself_may_not(
    install, tmp_path, monkeypatch
):
    monkeypatch.setattr(install, "venv_python", lambda: sys.executable)
    monkeypatch.setattr(install, "ROOT", str(tmp_path))
    monkeypatch.setattr(install, "IMPORT_CHECK", "import module_of_this_test")
    monkeypatch.setenv("PYTHONDONTWRITEBYTECODE", "1")
    (tmp_path / "module_of_this_test.py").write_text("x = 1")
    install.check_imports("")
    assert [path.name.split(".")[0] for path in tmp_path.rglob("*.pyc")] == ["module_of_this_test"]


def test_import_check_names_what_fails(install):
    command = [
        sys.executable,
        "-c",
        install.IMPORT_CHECK,
        json.dumps([["json", "loads"], ["no_such_module", ""]]),
    ]
    result = subprocess.run(command, capture_output=True, text=True)
    assert result.returncode == 1
    assert result.stdout.splitlines()[0].startswith("OK json")
    assert "FAILED no_such_module ModuleNotFoundError" in result.stdout


@pytest.mark.skipif(shutil.which("make") is None, reason="needs make")
def test_make_alone_lists_the_targets():
    result = subprocess.run(
        ["make"], cwd=ROOT, capture_output=True, text=True, stdin=subprocess.DEVNULL
    )
    assert result.returncode == 0, result.stderr
    targets = (
        *("demo", "check", "test", "test-all", "coverage", "lint", "hooks", "constraints"),
        *("dist", "tensorboard", "clean"),
    )
    for target in targets:
        assert f"make {target} " in result.stdout


@pytest.mark.skipif(shutil.which("make") is None, reason="needs make")
def test_make_without_python_says_so():
    result = subprocess.run(
        ["make", "PYTHON=", "install"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
    )
    assert result.returncode != 0
    assert "error: no Python found" in result.stderr


@pytest.mark.parametrize(
    ("given", "told"),
    [({}, "10000"), ({"GOMP_SPINCOUNT": "7"}, "7"), ({"OMP_WAIT_POLICY": "active"}, "None")],
)
def test_waiting_threads_are_told_to_yield_before_torch_is_loaded(
    given: dict[str, str], told: str
) -> None:
    settings = ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY")
    kept = {key: value for key, value in os.environ.items() if key not in settings}
    script = (
        "import os, sys; from asym_lightning.runtime import setup; setup(); "
        "print(os.environ.get('GOMP_SPINCOUNT'), 'torch' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        cwd=ROOT,
        env=kept | given,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.split() == [told, "False"]
