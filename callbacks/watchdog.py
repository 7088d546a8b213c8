"""The end of a run in which a rank failed, died or stands still, with that rank and its place."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any

from lightning import Callback, LightningModule, Trainer

from asym_lightning.checks import Positive, validated
from asym_lightning.runtime.torch_patches import wait_at_least
from asym_lightning.runtime.watch.phases import mark, training_state
from asym_lightning.runtime.watch.watching import Watch, store
from callbacks.parts import RunParts

# Time-outs of process groups, in limits: they apply if the watch itself is stuck.
PATIENCE = 2.0


@validated
class Watchdog(Callback):
    """The first callback: it marks the beginnings of phases before other callbacks act.

    ``asym_lightning.runtime.watch`` does the rest.

    Args:
        limit_s: the run ends when no rank has made progress for so long: no phase, engine step,
            verdict or micro-batch in any process. Until the first iteration is over the limit is at
            least an hour, since engines start and layers are compiled.

    Raises:
        FieldError: the limit is not above 0.
    """

    def __init__(self, limit_s: Positive = 1800.0) -> None:
        self.limit_s = limit_s
        # Writes the cause of the run's end into the run's folder.
        self.note: Callable[[str], None] = lambda text: None
        self._watch: Watch | None = None

    def take_parts(self, parts: RunParts) -> None:
        self.note = parts.note_failure

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        self._watch = Watch(
            store(trainer.world_size),
            trainer.global_rank,
            trainer.world_size,
            limit_s=self.limit_s,
            note=self.note,
        )
        self._watch.start(trainer.current_epoch, timedelta(seconds=max(1800.0, self.limit_s)))

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        training_state.iteration = trainer.current_epoch  # of the checkpoint, in a resumed run
        if trainer.world_size > 1:
            wait_at_least(timedelta(seconds=PATIENCE * self.limit_s))

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        training_state.iteration = trainer.current_epoch
        mark("rollout")

    def on_train_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int
    ) -> None:
        mark("learn")

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        mark("log")
        assert self._watch is not None
        self._watch.warm = True

    def on_save_checkpoint(
        self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        mark("checkpoint")

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        mark("end")

    def on_exception(
        self, trainer: Trainer, pl_module: LightningModule, exception: BaseException
    ) -> None:
        if self._watch is not None:
            self._watch.failed(exception)

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        if self._watch is not None:
            self._watch.finish()
            self._watch = None
