"""`train.py` as a command, and what a run of it leaves in its folder."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from transformers import AutoModelForCausalLM

from tests.support import ROOT, preloaded
from tests.support.ranks import free_port, rank_environment
from tests.support.runs import few_problems

SMALL = ("rollout.prompts_per_iteration=8", "rollout.group_size=4", "callbacks.evaluation.problems=8")
LOCKSTEP = ("-m", "tests.support.lockstep")  # as program: the runs of `-m` share a process and an engine
SAME = ["reward/mean", "entropy/policy", "entropy/positive", "length/mean", "solved/mixed", "loss/policy", "optimizer/grad_norm"]
LIMIT_S = 280.0  # until a command that does not end fails its test


def train(
    folder: Path, *overrides: str, status: int = 0, program: tuple[str, ...] = ("train.py",), ranks: int = 1, fresh: bool = False
) -> str:
    """Run ``train.py`` in ``folder``; its output.

    Args:
        ranks: above 1, so many processes run it together, each with the variables that torchrun sets.
        fresh: in an interpreter of its own, as a user does.
    """
    flags, rest = [o for o in overrides if o.startswith("-")], [o for o in overrides if not o.startswith("-")]
    devices = [f"trainer.devices={ranks}"] if ranks > 1 else []
    line = [*program, *flags, *SMALL, *few_problems(rest), *rest, *devices, f"hydra.run.dir={folder}", f"hydra.sweep.dir={folder}"]
    if fresh:
        done = subprocess.run([sys.executable, *line], cwd=ROOT, capture_output=True, text=True, timeout=LIMIT_S, check=False)
        assert done.returncode == status, done.stdout[-3000:] + done.stderr[-5000:]
        return done.stdout + done.stderr
    port = free_port()
    environments = [os.environ | (rank_environment(rank, ranks, port) if ranks > 1 else {}) for rank in range(ranks)]
    running = [preloaded.command(line, environment=environment) for environment in environments]
    return "".join(preloaded.finished(running, LIMIT_S, [status] * ranks))


def start(*arguments: str, **options: Any) -> preloaded.Process:
    """Start ``train.py`` with these arguments alone."""
    return preloaded.command(["train.py", *arguments, *few_problems(arguments)], **options)


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
