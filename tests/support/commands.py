"""`train.py` as a command, and the files that a run leaves in its folder."""

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from transformers import AutoModelForCausalLM

from tests.support import ROOT, preloaded
from tests.support.ranks import free_port, rank_environment
from tests.support.runs import few_problems

SMALL = (
    "rollout.prompts_per_iteration=8",
    "rollout.group_size=4",
    "callbacks.evaluation.problems=8",
)
ON_CPU = ("trainer.accelerator=cpu", "trainer.precision=32-true")
SHARDS = ("trainer=fsdp2", *ON_CPU)
ZERO = ("trainer=deepspeed", "trainer.strategy.stage=3", *ON_CPU)
# As ``program`` of ``train``: the runs of `-m` share a process and an engine.
LOCKSTEP = ("-m", "tests.support.lockstep")
SAME = [
    "reward/mean",
    "entropy/policy",
    "entropy/positive",
    "length/mean",
    "solved/mixed",
    "loss/policy",
    "optimizer/grad_norm",
]
LIMIT_S = 280.0  # until a command that does not end fails its test


def train(
    folder: Path,
    *overrides: str,
    status: int = 0,
    program: tuple[str, ...] = ("train.py",),
    ranks: int = 1,
    fresh: bool = False,
) -> str:
    """Run ``train.py`` with ``folder`` as run folder, and return its output.

    Args:
        ranks: the number of processes; several have the variables that torchrun sets.
        fresh: start a new interpreter, as a user does, not a fork of the preloaded process.
    """
    flags = [override for override in overrides if override.startswith("-")]
    rest = [override for override in overrides if not override.startswith("-")]
    devices = [f"trainer.devices={ranks}"] if ranks > 1 else []
    folders = [f"hydra.run.dir={folder}", f"hydra.sweep.dir={folder}"]
    line = [*program, *flags, *SMALL, *few_problems(rest), *rest, *devices, *folders]
    if fresh:
        done = subprocess.run(
            [sys.executable, *line],
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=LIMIT_S,
            check=False,
        )
        assert done.returncode == status, done.stdout[-3000:] + done.stderr[-5000:]
        return done.stdout + done.stderr
    port = free_port()
    running = []
    for rank in range(ranks):
        variables = rank_environment(rank, ranks, port) if ranks > 1 else {}
        running.append(preloaded.command(line, environment=os.environ | variables))
    return "".join(preloaded.finished(running, LIMIT_S, [status] * ranks))


def start(*arguments: str, **options: Any) -> preloaded.Process:
    """Start ``train.py`` with these arguments and no others."""
    return preloaded.command(["train.py", *arguments, *few_problems(arguments)], **options)


def finished(running: Sequence[preloaded.Process]) -> list[str]:
    """Wait for commands that run side by side, check that none failed, and return their outputs."""
    return preloaded.finished(running, LIMIT_S, [0] * len(running))


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
