"""Ctrl-C, or a SIGTERM of Slurm or of a container, ends a run at the next iteration boundary, with a checkpoint and a summary."""

import signal
import threading
from typing import Any

from lightning import Callback, LightningModule, Trainer


class GracefulStop(Callback):
    """The first signal that any rank gets lets the iteration finish and stops; a second one stops at once."""

    def __init__(self) -> None:
        self.interrupted = False
        self._previous: dict[signal.Signals, Any] = {}

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if threading.current_thread() is not threading.main_thread():
            return

        def stop(signum: int, frame: Any) -> None:
            if self.interrupted:
                raise KeyboardInterrupt
            self.interrupted = True
            if trainer.is_global_zero:  # all ranks may get it
                saved = " and saved" if any(getattr(c, "save_last", False) for c in trainer.checkpoint_callbacks) else ""
                again = "Ctrl-C" if signum == signal.SIGINT else "SIGTERM"
                print(f"interrupted: this iteration is finished{saved}; a second {again} stops at once", flush=True)

        self._previous = {kind: signal.signal(kind, stop) for kind in (signal.SIGINT, signal.SIGTERM)}

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        trainer.should_stop = trainer.strategy.reduce_boolean_decision(self.interrupted, all=False)
        self.interrupted = self.interrupted or trainer.should_stop

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        for kind, previous in self._previous.items():
            signal.signal(kind, previous)
        self._previous = {}
