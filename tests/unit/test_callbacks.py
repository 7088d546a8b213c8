"""Callbacks with a trainer in place of Lightning's: what they count, and what they leave alone."""

from types import SimpleNamespace
from typing import Any

from lightning import Callback
from lightning.pytorch.callbacks import ModelCheckpoint, Timer
from lightning.pytorch.loggers import TensorBoardLogger

from callbacks.board import Board
from callbacks.guards import GracefulStop
from callbacks.order import ORDER, in_order
from callbacks.record import Recorder, RecordSettings


class Logger(TensorBoardLogger):
    """Keeps what the hparams tab gets."""

    def __init__(self) -> None:
        self.metrics: dict[str, float] = {}

    def log_hyperparams(self, params: Any, metrics: Any = None, step: Any = None) -> None:
        self.metrics = metrics


def test_a_mean_of_the_hparams_tab_is_over_the_rows_that_have_the_metric() -> None:
    nothing: Any = None
    record, logger = Recorder(RecordSettings("."), nothing), Logger()
    record.history = [{"reward/mean": 0.5}, {"reward/mean": 1.0, "entropy/policy": 0.25}]
    record.evaluation = {"before": {}, "after": {"eval/heldout/pass@1": 0.5}}
    trainer: Any = SimpleNamespace(loggers=[logger], is_global_zero=True)
    parts: Any = SimpleNamespace(record=record, hyperparameters={})
    board = Board()
    board.take_parts(parts)
    board.on_train_end(trainer, nothing)
    assert logger.metrics == {
        "last_10/reward/mean": 0.75,
        "last_10/entropy/policy": 0.25,
        "final/eval/heldout/pass@1": 0.5,
    }


class Mine(Callback):
    """A callback of a user's own."""


class Measuring(Callback):
    adds_metrics = True


def test_the_order_of_callbacks_does_not_follow_the_config() -> None:
    keep, best, mine, measuring = ModelCheckpoint(), ModelCheckpoint(), Mine(), Measuring()
    named: dict[str, Callback] = {"checkpoint": keep, "best": best, "mine": mine}
    named |= {name: Callback() for name in reversed(ORDER) if name != "checkpoint"}
    named["measuring"] = measuring
    timer = Timer("00:01:00:00")
    names = {id(callback): name for name, callback in named.items()} | {id(timer): "timer"}
    got = [names[id(callback)] for callback in in_order(named, [timer])]
    before, after = ORDER[: ORDER.index("record")], ORDER[ORDER.index("record") : -1]
    assert got == [*before, "measuring", *after, "mine", "timer", "checkpoint", "best"]


def test_a_stop_that_another_callback_asked_for_is_kept() -> None:
    strategy = SimpleNamespace(reduce_boolean_decision=lambda decision, all: decision)
    trainer: Any = SimpleNamespace(should_stop=True, strategy=strategy)
    guard = GracefulStop()
    guard.on_train_epoch_end(trainer, None)  # type: ignore[arg-type]
    assert trainer.should_stop and not guard.interrupted
    trainer.should_stop = False
    guard.on_train_epoch_end(trainer, None)  # type: ignore[arg-type]
    assert not trainer.should_stop
    guard.interrupted = True
    guard.on_train_epoch_end(trainer, None)  # type: ignore[arg-type]
    assert trainer.should_stop
