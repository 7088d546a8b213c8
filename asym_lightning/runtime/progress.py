"""One bar for everything that takes long: live on a terminal, a line now and then elsewhere."""

import sys

from rich.console import Console, Group
from rich.live import Live
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.text import Text


class Bar:
    """Counts ``label`` up to ``total``; where there is no terminal it prints a line at every ``every``-th one and at the last.

    Args:
        done: how many are done already.
    """

    def __init__(self, label: str, total: int, every: int, done: int = 0):
        self.label, self.total, self.every = label, total, every
        self._live: Live | None = None
        if sys.stdout.isatty():
            self._count = Progress(TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
            self._task = self._count.add_task(label, total=total, completed=done)
            self._live = Live(self._count, console=Console())
            self._live.start()

    def update(self, done: int, state: str) -> None:
        """``done`` of ``total`` are done; ``state`` says how it goes."""
        if self._live is not None:
            self._count.update(self._task, completed=done)
            self._live.update(Group(self._count, Text(state)))
        elif done % self.every == 0 or done == self.total:
            print(f"{self.label} {done}/{self.total}  {state}", flush=True)

    def close(self) -> None:
        """Leave the terminal as it was; may be called twice."""
        if self._live is not None:
            self._live.stop()
            self._live = None
