"""Diagnostics only look: they change no bit of the weights, and no step writes into a batch."""

from collections.abc import Callable
from dataclasses import FrozenInstanceError, fields
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning import Callback, LightningModule, Trainer
from torch import Tensor

from asym_lightning.algorithms import GroupStandardized
from asym_lightning.learner.batch import MiniBatch, PackedBatch
from callbacks.dynamics import EntropyDynamics
from callbacks.ledger import EntropyLedger
from callbacks.throughput import Throughput
from tests.support.fits import gradients
from tests.support.parts import groups_without_signal

pytestmark = pytest.mark.gradients
DIAGNOSTICS: dict[str, Callable[[], Callback]] = {
    "dynamics": EntropyDynamics,
    "ledger": lambda: EntropyLedger(0.5),
    "throughput": Throughput,
}
SETTINGS: dict[str, Any] = {"budget": 60, "mini_batches": 2, "advantage": GroupStandardized()}


def test_any_set_of_diagnostics_leaves_every_bit_of_the_gradients(tmp_path: Path) -> None:
    groups = groups_without_signal(5)
    want = gradients(tmp_path / "none", groups=groups, **SETTINGS)
    sets = [names for size in (1, 2, 3) for names in combinations(DIAGNOSTICS, size)]
    assert len(sets) == 7
    for names in sets:
        attached = [DIAGNOSTICS[name]() for name in names]
        folder = tmp_path / "-".join(names)
        got = gradients(folder, groups=groups, callbacks=attached, **SETTINGS)
        for step, expected in zip(got, want, strict=True):
            assert step.keys() == expected.keys()
            assert all(torch.equal(step[name], expected[name]) for name in expected), names


def tensors(item: MiniBatch | PackedBatch) -> list[Tensor]:
    """Copies of all tensors of a batch, those of its micro-batches included."""
    own = [getattr(item, field.name) for field in fields(item)]
    copies = [value.clone() for value in own if isinstance(value, Tensor)]
    for micro in getattr(item, "micro_batches", ()):
        copies += tensors(micro)
    return copies


class Compared(Callback):
    """Compares the mini-batches before and after the updates of the iteration."""

    compared = 0

    def on_train_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: MiniBatch, batch_idx: int
    ) -> None:
        if batch_idx == 0:
            self.before = [tensors(mini_batch) for mini_batch in trainer.datamodule.mini_batches]  # type: ignore[attr-defined]
        self.batch = tensors(batch)

    def on_train_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: MiniBatch,
        batch_idx: int,
    ) -> None:
        assert all(map(torch.equal, tensors(batch), self.batch))
        with pytest.raises(FrozenInstanceError):
            batch.rewards = batch.rewards  # type: ignore[misc]

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        for mini_batch, before in zip(trainer.datamodule.mini_batches, self.before, strict=True):  # type: ignore[attr-defined]
            assert all(map(torch.equal, tensors(mini_batch), before))
            self.compared += 1


def test_nothing_writes_into_a_batch(tmp_path: Path) -> None:
    watch = Compared()
    attached = [*(make() for make in DIAGNOSTICS.values()), watch]
    gradients(tmp_path / "run", groups=groups_without_signal(5), callbacks=attached, **SETTINGS)
    assert watch.compared == 2
