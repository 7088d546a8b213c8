"""`train.py` as a command, and what a run of it leaves in its folder."""

import json
import signal
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from transformers import AutoModelForCausalLM

from tests.conftest import ROOT

SMALL = ("rollout.prompts_per_iteration=8", "rollout.group_size=4", "callbacks.evaluation.problems=8")
LOCKSTEP = ("-m", "tests.lockstep")  # as program: the runs of `-m` share a process and an engine
SAME = ["reward/mean", "entropy/policy", "entropy/positive", "length/mean", "solved/mixed", "loss/policy", "optimizer/grad_norm"]


def train(folder: Path, *overrides: str, status: int = 0, program: tuple[str, ...] = ("train.py",)) -> str:
    """Run ``train.py`` in ``folder``; its output."""
    flags, rest = [o for o in overrides if o.startswith("-")], [o for o in overrides if not o.startswith("-")]
    command = [sys.executable, *program, *flags, *SMALL, *rest, f"hydra.run.dir={folder}", f"hydra.sweep.dir={folder}"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=900, check=False)
    assert done.returncode == status, done.stdout[-3000:] + done.stderr[-5000:]
    return done.stdout + done.stderr


def start(*arguments: str, **options: Any) -> subprocess.Popen[str]:
    """Start ``train.py`` as a terminal does: Ctrl-C reaches it, even where the tests run in the background and ignore it."""
    heed = partial(signal.signal, signal.SIGINT, signal.SIG_DFL)
    pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    return subprocess.Popen([sys.executable, "-u", "train.py", *arguments], cwd=ROOT, preexec_fn=heed, **pipes, **options)


def summary(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "summary.json").read_text())


def metrics(folder: Path) -> pd.DataFrame:
    table = pd.read_csv(folder / "metrics.csv")
    return table[table["reward/mean"].notna()].set_index("step")


def rollouts(folder: Path) -> pd.DataFrame:
    table = pd.concat(pd.read_parquet(path) for path in sorted(folder.glob("rollouts/*.parquet")))
    return table.sort_values(["iteration", "problem", "completion"], ignore_index=True)


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return AutoModelForCausalLM.from_pretrained(folder / "policy").state_dict()
