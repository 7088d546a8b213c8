"""A progress bar: live on a terminal, a line now and then elsewhere."""

import logging
import sys

from rich.console import Console, Group
from rich.live import Live
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.text import Text

from asym_lightning.runtime.log import ALL_RANKS

log = logging.getLogger(__name__)


class Bar:
    """A count of finished items, from ``done`` to ``total``.

    Without a terminal it logs a line after every ``every``-th item and after the last.

    Args:
        label: name of the items.
        total: number of items.
        every: items from one line to the next.
        done: number of items that are finished already.
    """

    def __init__(self, label: str, total: int, every: int, done: int = 0):
        self.label, self.total, self.every = label, total, every
        self._live: Live | None = None
        if sys.stdout.isatty():
            self._bar = Progress(
                TextColumn("{task.description}"),
                BarColumn(),
                MofNCompleteColumn(),
                TimeRemainingColumn(),
            )
            self._task = self._bar.add_task(label, total=total, completed=done)
            self._live = Live(self._bar, console=Console())
            self._live.start()

    def update(self, done: int, state: str) -> None:
        """Show that ``done`` items are finished, beside the text ``state``."""
        if self._live is not None:
            self._bar.update(self._task, completed=done)
            self._live.update(Group(self._bar, Text(state)))
        elif done % self.every == 0 or done == self.total:
            log.info(f"{self.label} {done}/{self.total}  {state}", extra=ALL_RANKS)

    def close(self) -> None:
        """Restore the terminal; further calls have no effect."""
        if self._live is not None:
            self._live.stop()
            self._live = None
