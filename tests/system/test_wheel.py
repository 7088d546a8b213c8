"""The wheel: the names that it claims, and its commands in an environment without a checkout."""

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
import torch

from tests.support import ROOT
from tests.support.commands import LIMIT_S, metrics, summary

SOURCES = (
    "asym_lightning",
    "callbacks",
    "conf",
    "hydra_plugins",
    "pyproject.toml",
    "setup.py",
    "README.md",
    "LICENSE",
)


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built from a copy of the sources without any other file."""
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"
    ignore = shutil.ignore_patterns("__pycache__")
    for name in SOURCES:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, source / name, ignore=ignore)
        else:
            shutil.copy(ROOT / name, source / name)
    build = ["-m", "build", "--wheel", "--no-isolation", "--outdir", str(folder), str(source)]
    done = subprocess.run(
        [sys.executable, *build], capture_output=True, text=True, timeout=LIMIT_S, check=False
    )
    output = done.stdout + done.stderr
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    assert "absent from" not in output, "setuptools warns of a folder that is no package"
    return next(folder.glob("*.whl"))


@pytest.fixture(scope="module")
def programs(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the commands in a new environment with the wheel.

    Other packages are shared with this environment.
    """
    folder = tmp_path_factory.mktemp("environment")
    create = [sys.executable, "-m", "venv", "--without-pip", str(folder)]
    subprocess.run(create, check=True, timeout=LIMIT_S)
    python = folder / "bin" / "python"
    install = ["--python", str(python), "install", "--no-deps", "--no-index", "--quiet", str(wheel)]
    subprocess.run([sys.executable, "-m", "pip", *install], check=True, timeout=LIMIT_S)
    place = next((folder / "lib").glob("python*/site-packages"))
    # The .pth files of this folder do not count there.
    (place / "shared.pth").write_text(f"{Path(torch.__file__).parent.parent}\n")
    return folder / "bin"


def run(programs: Path, cwd: Path, program: str, *arguments: str, status: int = 0) -> str:
    """Run a command of the environment in a folder that is no checkout, and return its output."""
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    done = subprocess.run(
        [str(programs / program), *arguments],
        cwd=cwd,
        env=environment,
        capture_output=True,
        text=True,
        timeout=LIMIT_S,
        check=False,
    )
    assert done.returncode == status, done.stdout[-3000:] + done.stderr[-5000:]
    return done.stdout + done.stderr


def files(folder: str, pattern: str) -> set[str]:
    """Paths of the checkout's files below a folder, relative to the root."""
    return {str(file.relative_to(ROOT)) for file in (ROOT / folder).rglob(pattern)}


def test_a_wheel_claims_no_foreign_name(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as file:
        names = set(file.namelist())
    tops = {name.split("/")[0] for name in names}
    metadata = f"{wheel.name.removesuffix('-py3-none-any.whl')}.dist-info"
    assert tops == {"asym_lightning", "hydra_plugins", metadata}
    expected = {"asym_lightning/analysis/report.html"}
    expected |= files("asym_lightning", "*.py") | files("hydra_plugins", "*.py")
    expected |= files("asym_lightning/assets", "*.*")
    checkout = files("callbacks", "*.py") | files("conf", "*.yaml")
    expected |= {f"asym_lightning/_checkout/{path}" for path in checkout}
    assert {name for name in names if ".dist-info/" not in name} == expected


def test_the_commands_of_a_wheel_work_outside_a_checkout(
    programs: Path, policy: str, tmp_path: Path
) -> None:
    run(programs, tmp_path, "asym-train", "debug=tiny", policy, f"hydra.run.dir={tmp_path / 'run'}")
    assert summary(tmp_path / "run")["status"] == "done" and len(metrics(tmp_path / "run")) == 1
    script = (
        "from asym_lightning.runtime import setup; setup(); "
        "import callbacks.record; print(callbacks.record.__file__)"
    )
    place = Path(run(programs, tmp_path, "python", "-c", script).strip())
    assert place.parts[-4:] == ("asym_lightning", "_checkout", "callbacks", "record.py")
    assert programs.parent in place.parents


@pytest.mark.full
def test_every_command_and_launcher_of_a_wheel(programs: Path, policy: str, tmp_path: Path) -> None:
    """Callbacks and configs are found by two ranks, workers of joblib, and all other commands."""
    tiny = ("debug=tiny", policy, "rollout=transformers", "task.train_size=64")
    wrong = run(programs, tmp_path, "asym-train", "trainer.grad_clip=1", status=2)
    assert "asym-train --help lists every key" in wrong
    two = ("trainer.devices=2", f"hydra.run.dir={tmp_path / 'two'}")
    run(programs, tmp_path, "asym-train", *tiny, *two)
    sweep = ("-m", "algo=grpo,reinforce", "hydra/launcher=joblib")
    run(programs, tmp_path, "asym-train", *sweep, *tiny, f"hydra.sweep.dir={tmp_path / 'sweep'}")
    for name in ("two", "sweep/grpo-seed1", "sweep/reinforce-seed1"):
        assert summary(tmp_path / name)["status"] == "done"
    scored = (
        f"policy.path={tmp_path / 'two' / 'checkpoints' / 'last.ckpt'}",
        "benchmarks=[countdown]",
        "benchmarks.countdown.heldout_size=8",
        "samples=2",
        "rollout.engine=transformers",
        f"hydra.run.dir={tmp_path / 'scores'}",
    )
    run(programs, tmp_path, "asym-evaluate", *scored)
    assert (tmp_path / "scores" / "results.json").is_file()
    assert "2 runs" in run(programs, tmp_path, "asym-compare", "sweep", "--out", "report")
    assert (tmp_path / "report").is_dir()
