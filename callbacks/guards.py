"""Ctrl-C ends a run at the next iteration boundary, with a checkpoint and a summary."""

import signal
import threading
from typing import Any

from lightning import Callback, LightningModule, Trainer


class GracefulStop(Callback):
    """The first interrupt lets the iteration finish and stops; a second one stops at once."""

    def __init__(self) -> None:
        self.interrupted = False
        self._previous: Any = None

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if threading.current_thread() is not threading.main_thread():
            return

        def stop(signum: int, frame: Any) -> None:
            if self.interrupted:
                raise KeyboardInterrupt
            self.interrupted = True
            saved = " and saved" if trainer.checkpoint_callbacks else ""
            print(f"interrupted: this iteration is finished{saved}; a second Ctrl-C stops at once", flush=True)

        self._previous = signal.signal(signal.SIGINT, stop)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        trainer.should_stop = trainer.strategy.reduce_boolean_decision(self.interrupted, all=False)
        self.interrupted = self.interrupted or trainer.should_stop

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        if self._previous is not None:
            signal.signal(signal.SIGINT, self._previous)
            self._previous = None
