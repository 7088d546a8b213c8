"""Short runs within the test's own process."""

import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch

from asym_lightning.commands.cli import entry
from asym_lightning.learner.embedded import EmbeddedSettings, build_model, byte_tokenizer

SMALL = ("rollout=transformers", "rollout.prompts_per_iteration=8", "rollout.group_size=4", "callbacks.evaluation.problems=4")


def random_policy(folder: Path) -> Path:
    """The embedded policy's architecture with random weights, in ``folder``."""
    tokenizer = byte_tokenizer()
    with torch.random.fork_rng(devices=[]):
        build_model(EmbeddedSettings(), tokenizer).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def few_problems(overrides: Sequence[str]) -> list[str]:
    """An override for the default task, which draws and tokenizes 16,384 problems at each start unless told otherwise."""
    others = ("task=", "task.", "task@", "experiment=")
    return [] if any(override.startswith(others) for override in overrides) else ["task.train_size=256"]


def run(monkeypatch: pytest.MonkeyPatch, folder: Path, *overrides: str, into: Path | None = None) -> Path:
    """A run with the portable engine and ``folder`` as config folder; its run directory, ``folder/run`` unless given."""
    target = into or folder / "run"
    monkeypatch.setattr(
        sys, "argv", ["train.py", "--config-dir", str(folder), *SMALL, *few_problems(overrides), *overrides, f"hydra.run.dir={target}"]
    )
    entry("train", "asym_lightning.commands.train:train")
    return target
