"""One progress bar over the iterations: reward, entropy, solved shares, tokens per second."""

import sys

from lightning import Callback, LightningModule, Trainer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from callbacks.record import Recorder


class IterationProgress(Callback):
    """A live bar on a terminal; elsewhere one line every ``print_every`` iterations."""

    def __init__(self, print_every: int = 10):
        self.print_every = print_every
        self._bar: Progress | None = None
        self._task = TaskID(0)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if trainer.is_global_zero and sys.stdout.isatty():
            columns = (
                TextColumn("{task.description}"),
                BarColumn(),
                MofNCompleteColumn(),
                TimeRemainingColumn(),
                TextColumn("{task.fields[state]}"),
            )
            self._bar = Progress(*columns, console=Console())
            self._task = self._bar.add_task("iterations", total=trainer.max_epochs, completed=trainer.current_epoch, state="")
            self._bar.start()

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if not trainer.is_global_zero:
            return
        metrics = next(c for c in trainer.callbacks if isinstance(c, Recorder)).history[-1]  # type: ignore[attr-defined]
        state = describe(metrics)
        if self._bar is not None:
            self._bar.update(self._task, completed=trainer.current_epoch + 1, state=state)
        elif trainer.current_epoch % self.print_every == 0 or trainer.current_epoch + 1 == trainer.max_epochs:
            print(f"iteration {trainer.current_epoch + 1}/{trainer.max_epochs}  {state}", flush=True)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._stop()

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        self._stop()

    def _stop(self) -> None:
        if self._bar is not None:
            self._bar.stop()
            self._bar = None


def describe(metrics: dict[str, float]) -> str:
    """The state of a run in one line."""
    return (
        f"reward {metrics['reward/mean']:.3f}  entropy {metrics.get('entropy/policy', float('nan')):.3f}  "
        f"solved none {metrics['solved/none']:.2f} mixed {metrics['solved/mixed']:.2f} all {metrics['solved/all']:.2f}  "
        f"{metrics['throughput/tokens_per_s']:,.0f} tok/s"
    )
