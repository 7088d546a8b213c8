"""A graceful end of a run after Ctrl-C, or a SIGTERM from Slurm or a container.

The run ends at the next iteration boundary, with a checkpoint and a summary.
"""

import logging
import signal
import threading
from typing import Any

from lightning import Callback, LightningModule, Trainer

log = logging.getLogger(__name__)


class GracefulStop(Callback):
    """Stops the run after the iteration in which any rank gets a signal.

    A second signal stops it at once.
    """

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
            saves = any(getattr(c, "save_last", False) for c in trainer.checkpoint_callbacks)
            again = "Ctrl-C" if signum == signal.SIGINT else "SIGTERM"
            log.info(
                f"interrupted: this iteration is finished{' and saved' if saves else ''}; "
                f"a second {again} stops at once"
            )

        for kind in (signal.SIGINT, signal.SIGTERM):
            self._previous[kind] = signal.signal(kind, stop)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        stop = trainer.strategy.reduce_boolean_decision(self.interrupted, all=False)
        self.interrupted = self.interrupted or stop
        # Another callback may have asked for the end.
        trainer.should_stop = trainer.should_stop or stop

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        for kind, previous in self._previous.items():
            signal.signal(kind, previous)
        self._previous = {}
