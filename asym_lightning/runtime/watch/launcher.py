"""Lightning's launcher of ranks, with ranks that end with the process that started them and a loss that is told."""

import atexit
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from lightning import Trainer
from lightning.fabric.utilities.distributed import _set_num_threads_if_needed
from lightning.pytorch.strategies.launchers.subprocess_script import _SubprocessScriptLauncher

from asym_lightning.runtime.watch import watching
from asym_lightning.runtime.watch.parent import taking_along

PERIOD_S = 0.2
LEAVE_S = 30.0  # for the other ranks to end when the first one has


class Launcher(_SubprocessScriptLauncher):
    """Starts the other ranks of this machine. Lightning's own kills this process without a word when one of them has failed.

    Args:
        given: Lightning's launcher, in whose place this one comes.
        note: writes down in the run's folder what it ended of.
    """

    def __init__(self, given: _SubprocessScriptLauncher, note: Callable[[str], None]) -> None:
        super().__init__(given.cluster_environment, given.num_processes, given.num_nodes)
        self._note = note

    def launch(self, function: Callable[..., Any], *args: Any, trainer: Trainer | None = None, **kwargs: Any) -> Any:
        """Start the processes, unless torchrun or Slurm has, and call ``function`` in this one."""
        self.cluster_environment.validate_settings(num_devices=self.num_processes, num_nodes=self.num_nodes)
        if not self.cluster_environment.creates_processes_externally:
            with taking_along():
                self._call_children_scripts()
            threading.Thread(target=self._observe, name="launcher", daemon=True).start()
        _set_num_threads_if_needed(num_processes=self.num_processes)
        result = function(*args, **kwargs)
        if self.procs:
            atexit.register(self._await_ends)
        return result

    def _observe(self) -> None:
        """Look after the other ranks until the watch of a run does."""
        while not watching.begun.is_set():
            time.sleep(PERIOD_S)
            for rank, process in enumerate(self.procs, start=1):
                if process.poll():
                    text = f"rank {self.cluster_environment.node_rank() * self.num_processes + rank} ended with status "
                    text += f"{process.returncode} before the ranks had found each other"
                    print(f"error: {text}", file=sys.stderr, flush=True)
                    self._note(text)
                    sys.stdout.flush()
                    os._exit(1)

    def _await_ends(self) -> None:
        until = time.monotonic() + LEAVE_S
        for process in self.procs:
            with suppress(subprocess.TimeoutExpired):
                process.wait(max(0.0, until - time.monotonic()))


def watch_start(trainer: Trainer, note: Callable[[str], None]) -> None:
    """Let the trainer start its ranks by :class:`Launcher`, if it starts any by commands of their own."""
    given = trainer.strategy.launcher
    if isinstance(given, _SubprocessScriptLauncher):
        trainer.strategy._launcher = Launcher(given, note)
