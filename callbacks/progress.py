"""One progress bar over the iterations: reward, entropy, solved shares, tokens per second."""

from lightning import Callback, LightningModule, Trainer

from asym_lightning.checks import Count, validated
from asym_lightning.runtime.progress import Bar
from callbacks.parts import RunParts


@validated
class IterationProgress(Callback):
    """A live bar on a terminal; elsewhere one line every ``print_every`` iterations."""

    def __init__(self, print_every: Count = 10):
        self.print_every = print_every
        self._bar: Bar | None = None

    def take_parts(self, parts: RunParts) -> None:
        self._record = parts.record

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if trainer.is_global_zero:
            total, done = trainer.max_epochs or 0, trainer.current_epoch
            self._bar = Bar("iterations", total, self.print_every, done=done)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if self._bar is not None:
            self._bar.update(trainer.current_epoch + 1, progress_line(self._record.history[-1]))

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._close()

    def on_exception(
        self, trainer: Trainer, pl_module: LightningModule, exception: BaseException
    ) -> None:
        self._close()

    def _close(self) -> None:
        if self._bar is not None:
            self._bar.close()
            self._bar = None


def progress_line(metrics: dict[str, float]) -> str:
    """The main metrics of an iteration as one line for the terminal."""
    entropy = metrics.get("entropy/policy", float("nan"))
    return (
        f"reward {metrics['reward/mean']:.3f}  entropy {entropy:.3f}  "
        f"solved: none {metrics['solved/none']:.2f} mixed {metrics['solved/mixed']:.2f} "
        f"all {metrics['solved/all']:.2f}  "
        f"{metrics['throughput/tokens_per_s']:,.0f} tok/s"
    )
