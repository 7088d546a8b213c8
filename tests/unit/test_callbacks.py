"""Callbacks with a trainer in place of Lightning's: what they count, and what they leave alone."""

from types import SimpleNamespace
from typing import Any

from lightning.pytorch.loggers import TensorBoardLogger

from callbacks.board import Board
from callbacks.guards import GracefulStop
from callbacks.record import Recorder


class Logger(TensorBoardLogger):
    """Keeps what the hparams tab gets."""

    def __init__(self) -> None:
        self.metrics: dict[str, float] = {}

    def log_hyperparams(self, params: Any, metrics: Any = None, step: Any = None) -> None:
        self.metrics = metrics


def test_a_mean_of_the_hparams_tab_is_over_the_rows_that_have_the_metric() -> None:
    record, logger = Recorder("."), Logger()
    record.history = [{"reward/mean": 0.5}, {"reward/mean": 1.0, "entropy/policy": 0.25}]
    trainer: Any = SimpleNamespace(loggers=[logger], is_global_zero=True, callbacks=[record])
    Board({}).on_train_end(trainer, None)  # type: ignore[arg-type]
    assert logger.metrics == {"last_10/reward/mean": 0.75, "last_10/entropy/policy": 0.25}


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
