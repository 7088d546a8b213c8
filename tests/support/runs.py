"""Short runs within the test's process."""

import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch

from asym_lightning.commands.cli import entry
from asym_lightning.learner.embedded import EmbeddedSettings, build_model, byte_tokenizer

SMALL = (
    "rollout=transformers",
    "rollout.prompts_per_iteration=8",
    "rollout.group_size=4",
    "callbacks.evaluation.problems=4",
)


def random_policy(folder: Path) -> Path:
    """The embedded policy's architecture with random weights, in ``folder``."""
    tokenizer = byte_tokenizer()
    with torch.random.fork_rng(devices=[]):
        build_model(EmbeddedSettings(), tokenizer).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def few_problems(overrides: Sequence[str]) -> list[str]:
    """An override that makes the default task small, or none if ``overrides`` choose the task.

    The default task would draw and tokenize 16,384 problems at each start.
    """
    others = ("task=", "task.", "task@", "experiment=")
    if any(override.startswith(others) for override in overrides):
        return []
    return ["task.train_size=256"]


def run(
    monkeypatch: pytest.MonkeyPatch, folder: Path, *overrides: str, into: Path | None = None
) -> Path:
    """Train with the portable engine and ``folder`` as config folder, and return the run folder.

    Args:
        into: the run folder; ``folder / "run"`` by default.
    """
    target = into or folder / "run"
    start = ["train.py", "--config-dir", str(folder), *SMALL, *few_problems(overrides)]
    monkeypatch.setattr(sys, "argv", [*start, *overrides, f"hydra.run.dir={target}"])
    entry("train", "asym_lightning.commands.train:train")
    return target
