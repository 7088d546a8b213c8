"""The checkpoints that a run leaves to resume from."""

from pathlib import Path
from typing import Any

import pytest
import torch
from lightning import Callback, LightningModule, Trainer
from torch.utils.data import DataLoader

from asym_lightning.commands.quiet import quiet
from callbacks.checkpoint import RunCheckpoint
from callbacks.guards import GracefulStop


class Counting(LightningModule):
    """Learns nothing; its one weight counts the steps."""

    def __init__(self) -> None:
        super().__init__()
        self.steps = torch.nn.Parameter(torch.zeros(()))

    def training_step(self, batch: Any, batch_idx: int) -> torch.Tensor:
        return -self.steps

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD([self.steps], lr=1.0)

    def train_dataloader(self) -> DataLoader:
        return DataLoader(torch.zeros(1, 1))  # type: ignore[arg-type]


class Script(Callback):
    """Interrupts in an epoch, scores each epoch, and looks for the last checkpoint at the end."""

    def __init__(self, place: Path, interrupt: int | None, scores: dict[int, float]):
        self.place, self.interrupt, self.scores, self.seen = place, interrupt, scores, False

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if trainer.current_epoch == self.interrupt:
            callbacks: list[Callback] = trainer.callbacks  # type: ignore[attr-defined]
            stop = next(c for c in callbacks if isinstance(c, GracefulStop))
            stop.interrupted = True

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        trainer.callback_metrics.pop("score", None)
        if trainer.current_epoch in self.scores:
            trainer.callback_metrics["score"] = torch.tensor(self.scores[trainer.current_epoch])

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.seen = (self.place / "last.ckpt").exists()


def fit(
    place: Path,
    epochs: int,
    interrupt: int | None = None,
    scores: dict[int, float] | None = None,
    resume: Path | None = None,
) -> Script:
    quiet()
    script = Script(place, interrupt, scores or {})
    keep = RunCheckpoint(
        place,
        "{epoch}",
        save_top_k=-1,
        save_last=True,
        every_n_epochs=3,
        save_on_train_epoch_end=True,
    )
    best = RunCheckpoint(
        place,
        "best",
        monitor="score",
        mode="max",
        save_on_train_epoch_end=True,
        enable_version_counter=False,
    )
    Trainer(
        max_epochs=epochs,
        callbacks=[script, GracefulStop(), keep, *([best] if scores else [])],
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        accelerator="cpu",
    ).fit(Counting(), ckpt_path=resume, weights_only=True)
    return script


def steps(place: Path, name: str) -> int:
    state = torch.load(place / f"{name}.ckpt", weights_only=True)
    assert state["global_step"] == state["state_dict"]["steps"]
    return state["global_step"]


@pytest.mark.parametrize(
    ("epochs", "interrupt", "last"),
    [(9, 1, 2), (9, 4, 5), (9, 5, 6), (7, None, 7), (6, None, 6)],
    ids=["early", "late", "due", "end", "whole"],
)
def test_the_last_checkpoint_is_of_the_last_iteration_and_there_before_training_ends(
    epochs: int, interrupt: int | None, last: int, tmp_path: Path
) -> None:
    script = fit(tmp_path, epochs, interrupt)
    assert steps(tmp_path, "last") == last and script.seen
    every_third = [f"epoch={i}" for i in range(2, last, 3)]
    assert {path.stem for path in tmp_path.iterdir()} == {"last", *every_third}


def test_a_resumed_run_keeps_the_best_of_all(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    fit(first, 2, scores={0: 0.9, 1: 0.6})
    assert steps(first, "best") == 1
    fit(second, 4, scores={2: 0.3, 3: 0.2}, resume=first / "last.ckpt")
    best = f"the best score so far, 0.9, is in {first / 'best.ckpt'}"
    assert f"{best}; better ones will be in {second}" in capsys.readouterr().out
    assert not (second / "best.ckpt").exists()
    fit(tmp_path / "third", 6, scores={4: 0.5, 5: 0.95}, resume=second / "last.ckpt")
    assert steps(tmp_path / "third", "best") == 6 and steps(first, "best") == 1
