"""The wheel: which names it claims, and its commands in an environment without a checkout."""

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

SOURCES = ("asym_lightning", "callbacks", "conf", "hydra_plugins", "pyproject.toml", "setup.py", "README.md", "LICENSE")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built from a copy of the sources, in which nothing else lies."""
    folder = tmp_path_factory.mktemp("wheel")
    for name in SOURCES:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, folder / "source" / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(ROOT / name, folder / "source" / name)
    build = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(folder), str(folder / "source")]
    done = subprocess.run(build, capture_output=True, text=True, timeout=LIMIT_S, check=False)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    assert "absent from" not in done.stdout + done.stderr  # setuptools, of a folder that is no package
    return next(folder.glob("*.whl"))


@pytest.fixture(scope="module")
def programs(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the commands of a new environment: the wheel is installed there, and other packages are shared."""
    folder = tmp_path_factory.mktemp("environment")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder)], check=True, timeout=LIMIT_S)
    python = folder / "bin" / "python"
    install = ["--python", str(python), "install", "--no-deps", "--no-index", "--quiet", str(wheel)]
    subprocess.run([sys.executable, "-m", "pip", *install], check=True, timeout=LIMIT_S)
    place = next((folder / "lib").glob("python*/site-packages"))
    (place / "shared.pth").write_text(f"{Path(torch.__file__).parent.parent}\n")  # whose own .pth files do not count
    return folder / "bin"


def run(programs: Path, cwd: Path, program: str, *arguments: str, status: int = 0) -> str:
    """Run a command of the environment in a folder that is no checkout; its output."""
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    line = [str(programs / program), *arguments]
    done = subprocess.run(line, cwd=cwd, env=environment, capture_output=True, text=True, timeout=LIMIT_S, check=False)
    assert done.returncode == status, done.stdout[-3000:] + done.stderr[-5000:]
    return done.stdout + done.stderr


def test_a_wheel_claims_no_foreign_name(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as file:
        names = set(file.namelist())
    tops = {name.split("/")[0] for name in names}
    assert tops == {"asym_lightning", "hydra_plugins", f"{wheel.name.removesuffix('-py3-none-any.whl')}.dist-info"}
    code = {f"{file.relative_to(ROOT)}" for place in ("asym_lightning", "hydra_plugins") for file in (ROOT / place).rglob("*.py")}
    within = {file.relative_to(ROOT) for place, kind in (("callbacks", "*.py"), ("conf", "*.yaml")) for file in (ROOT / place).rglob(kind)}
    data = {f"{file.relative_to(ROOT)}" for file in (ROOT / "asym_lightning" / "assets").rglob("*.*")}
    expected = code | {f"asym_lightning/_checkout/{path}" for path in within} | data | {"asym_lightning/analysis/report.html"}
    assert {name for name in names if ".dist-info/" not in name} == expected


def test_the_commands_of_a_wheel_work_outside_a_checkout(programs: Path, policy: str, tmp_path: Path) -> None:
    run(programs, tmp_path, "asym-train", "debug=tiny", policy, f"hydra.run.dir={tmp_path / 'run'}")
    assert summary(tmp_path / "run")["status"] == "done" and len(metrics(tmp_path / "run")) == 1
    script = "from asym_lightning.runtime import setup; setup(); import callbacks.record; print(callbacks.record.__file__)"
    place = Path(run(programs, tmp_path, "python", "-c", script).strip())
    assert place.parts[-4:] == ("asym_lightning", "_checkout", "callbacks", "record.py") and programs.parent in place.parents


@pytest.mark.full
def test_every_command_and_launcher_of_a_wheel(programs: Path, policy: str, tmp_path: Path) -> None:
    """Two ranks, workers of joblib, an evaluation, a comparison: whatever starts another process finds callbacks and configs."""
    tiny = ("debug=tiny", policy, "rollout=transformers", "task.train_size=64")
    wrong = run(programs, tmp_path, "asym-train", "trainer.grad_clip=1", status=2)
    assert "asym-train --help lists every key" in wrong
    run(programs, tmp_path, "asym-train", *tiny, "trainer.devices=2", f"hydra.run.dir={tmp_path / 'two'}")
    run(
        programs,
        tmp_path,
        "asym-train",
        "-m",
        "algo=grpo,reinforce",
        "hydra/launcher=joblib",
        *tiny,
        f"hydra.sweep.dir={tmp_path / 'sweep'}",
    )
    assert all(summary(tmp_path / name)["status"] == "done" for name in ("two", "sweep/grpo-seed1", "sweep/reinforce-seed1"))
    checkpoint = tmp_path / "two" / "checkpoints" / "last.ckpt"
    scored = ("benchmarks=[countdown]", "benchmarks.countdown.heldout_size=8", "samples=2", "rollout.engine=transformers")
    run(programs, tmp_path, "asym-evaluate", f"policy.path={checkpoint}", *scored, f"hydra.run.dir={tmp_path / 'scores'}")
    assert (tmp_path / "scores" / "results.json").is_file()
    assert "2 runs" in run(programs, tmp_path, "asym-compare", "sweep", "--out", "report") and (tmp_path / "report").is_dir()
