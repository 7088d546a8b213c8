"""A launcher of ranks that end with their parent; it reports the loss of a rank."""

import atexit
import logging
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from lightning import Trainer

from asym_lightning.runtime.lightning_patches import ScriptLauncher, replace_launcher
from asym_lightning.runtime.log import ALL_RANKS
from asym_lightning.runtime.watch import watching
from asym_lightning.runtime.watch.parent import children_end_with_parent

log = logging.getLogger(__name__)
PERIOD_S = 0.2
LEAVE_S = 30.0  # for the other ranks to end after rank 0


class Launcher(ScriptLauncher):
    """Lightning's launcher of this machine's other ranks, with an error message for a failed rank.

    Lightning's own launcher kills this process silently when one of the others has failed.

    Args:
        launcher: Lightning's launcher, which this one replaces.
        note: records in the run's folder why the run ended.
    """

    def __init__(self, launcher: Any, note: Callable[[str], None]) -> None:
        super().__init__(launcher)
        self._note = note

    def launch(
        self,
        function: Callable[..., Any],
        *args: Any,
        trainer: Trainer | None = None,
        **kwargs: Any,
    ) -> Any:
        """Start the ranks, unless torchrun or Slurm has, and call ``function`` in this process."""
        self.cluster_environment.validate_settings(
            num_devices=self.num_processes, num_nodes=self.num_nodes
        )
        if not self.cluster_environment.creates_processes_externally:
            with children_end_with_parent():
                self.start_ranks()
            threading.Thread(target=self._observe, name="launcher", daemon=True).start()
        self.share_threads()
        result = function(*args, **kwargs)
        if self.procs:
            atexit.register(self._await_ends)
        return result

    def _observe(self) -> None:
        """Check that the other ranks live, until the watchdog of the run begins."""
        while not watching.begun.is_set():
            time.sleep(PERIOD_S)
            for local_rank, process in enumerate(self.procs, start=1):
                if process.poll():
                    rank = self.cluster_environment.node_rank() * self.num_processes + local_rank
                    text = (
                        f"rank {rank} ended with status {process.returncode} "
                        "before the ranks had found each other"
                    )
                    log.error(text, extra=ALL_RANKS)
                    self._note(text)
                    sys.stdout.flush()
                    os._exit(1)

    def _await_ends(self) -> None:
        """Wait for the other ranks to end, for at most ``LEAVE_S`` seconds."""
        until = time.monotonic() + LEAVE_S
        for process in self.procs:
            with suppress(subprocess.TimeoutExpired):
                process.wait(max(0.0, until - time.monotonic()))


def watch_start(trainer: Trainer, note: Callable[[str], None]) -> None:
    """Make the trainer start its ranks by :class:`Launcher`, if it starts them as commands."""
    replace_launcher(trainer, lambda launcher: Launcher(launcher, note))
