"""Starting and stopping the vLLM servers of a run."""

import os
import re
import signal
import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import torch

from asym_lightning.rollout.address import OWNER

# Environment variables of this process that a server must not inherit.
_RANK_VARIABLES = (
    "RANK",
    "LOCAL_RANK",
    "GROUP_RANK",
    "WORLD_SIZE",
    "LOCAL_WORLD_SIZE",
    "MASTER_ADDR",
    "MASTER_PORT",
    "NODE_RANK",
)
_ENGINE_VARIABLES = ("VLLM_ENABLE_V1_MULTIPROCESSING", "VLLM_LOGGING_LEVEL", "VLLM_API_KEY")
_NOT_PASSED_ON = (*_RANK_VARIABLES, *_ENGINE_VARIABLES)
_LAST_LINES, _STOP_S = 15, 10
_ERROR = re.compile(r"(?:^|\] )([A-Za-z_.]+(?:Error|Exception): .*)")
# Beginnings of lines that processes print at their exit, and that explain nothing.
_CHATTER = (
    "nanobind",
    "See https://nanobind",
    " - leaked",
    " - ... skipped",
    "  warnings.warn(",
)


class ServerProcess:
    """A server that dies with this process, however this process ends.

    The main thread must start it: the kernel ends the server with the thread that started it.

    Args:
        arguments: of ``python -m asym_lightning.serve``.
        environment: variables beside those of this process.
        log: file for the server's output.
    """

    def __init__(self, arguments: Sequence[str], environment: dict[str, str], log: Path):
        self.log = log
        log.parent.mkdir(parents=True, exist_ok=True)
        inherited = {
            key: value
            for key, value in os.environ.items()
            if key not in _NOT_PASSED_ON and not key.startswith("TORCHELASTIC_")
        }
        with log.open("w") as file:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "asym_lightning.serve", *arguments],
                env=inherited | environment | {OWNER: str(os.getpid())},
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=subprocess.STDOUT,
                # Ctrl-C then reaches the trainer alone, and the server's whole process group can
                # be ended at once.
                start_new_session=True,
            )
        self.pid = self._process.pid

    def exit_code(self, wait_s: float = 0.0) -> int | None:
        """The exit code (-9: killed by signal 9), None while it lives; waits up to ``wait_s``."""
        with suppress(subprocess.TimeoutExpired):
            return self._process.wait(wait_s)
        return None

    def last_lines(self) -> str:
        """The end of the log, after the first errors, which may be far above."""
        lines = [
            line
            for line in self.log.read_text(errors="replace").splitlines()
            if not line.startswith(_CHATTER)
        ]
        matches = [_ERROR.search(line) for line in lines[:-_LAST_LINES]]
        errors = dict.fromkeys(match.group(1) for match in matches if match)
        return "\n".join([*list(errors)[:3], *lines[-_LAST_LINES:]])

    def stop(self) -> None:
        """End the server and everything it started."""
        for ending in (signal.SIGTERM, signal.SIGKILL):
            with suppress(ProcessLookupError):
                os.killpg(self.pid, ending)
            if self.exit_code(_STOP_S) is not None:
                break
        # End the processes that are left of the group.
        with suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)


def gpu_for(index: int) -> dict[str, str]:
    """Environment that shows a server this machine's visible GPU ``index`` alone.

    Empty on a machine without GPUs.
    """
    if not torch.cuda.is_available():
        return {}
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    ids = visible.split(",") if visible else [str(i) for i in range(torch.cuda.device_count())]
    return {"CUDA_VISIBLE_DEVICES": ids[index]}
