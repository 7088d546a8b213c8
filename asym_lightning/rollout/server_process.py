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

_OF_THE_RUN = ("RANK", "LOCAL_RANK", "GROUP_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT", "NODE_RANK")
_NOT_PASSED_ON = (*_OF_THE_RUN, "VLLM_ENABLE_V1_MULTIPROCESSING", "VLLM_LOGGING_LEVEL", "VLLM_API_KEY")
_LAST_LINES, _STOP_S = 15, 10
_ERROR = re.compile(r"(?:^|\] )([A-Za-z_.]+(?:Error|Exception): .*)")
_CHATTER = ("nanobind", "See https://nanobind", " - leaked", " - ... skipped", "  warnings.warn(")  # at the exit of a process


class ServerProcess:
    """A server that dies with this process, however it ends. To be started by the main thread: the kernel ends the server when the
    thread that started it does.

    Args:
        arguments: of ``python -m asym_lightning.serve``.
        environment: beside this process's own.
        log: file for what the server prints.
    """

    def __init__(self, arguments: Sequence[str], environment: dict[str, str], log: Path):
        self.log = log
        log.parent.mkdir(parents=True, exist_ok=True)
        own = {key: value for key, value in os.environ.items() if key not in _NOT_PASSED_ON and not key.startswith("TORCHELASTIC_")}
        with log.open("w") as file:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "asym_lightning.serve", *arguments],
                env=own | environment | {OWNER: str(os.getpid())},
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # Ctrl-C is the trainer's to handle; and a group that is ended as a whole
            )
        self.pid = self._process.pid

    def exit_code(self, wait_s: float = 0.0) -> int | None:
        """Its exit code (-9: killed by signal 9), None while it lives; waits for it up to ``wait_s``."""
        with suppress(subprocess.TimeoutExpired):
            return self._process.wait(wait_s)
        return None

    def last_lines(self) -> str:
        """The end of its log; before it the first errors, which may stand far above."""
        lines = [line for line in self.log.read_text(errors="replace").splitlines() if not line.startswith(_CHATTER)]
        errors = dict.fromkeys(found.group(1) for line in lines[:-_LAST_LINES] if (found := _ERROR.search(line)))
        return "\n".join([*list(errors)[:3], *lines[-_LAST_LINES:]])

    def stop(self) -> None:
        """End the server and everything it started."""
        for end in (signal.SIGTERM, signal.SIGKILL):
            with suppress(ProcessLookupError):
                os.killpg(self.pid, end)
            if self.exit_code(_STOP_S) is not None:
                break
        with suppress(ProcessLookupError):  # what is left of the group
            os.killpg(self.pid, signal.SIGKILL)


def gpu_for(server: int, local_rank: int, local_ranks: int, shared: bool = False) -> dict[str, str]:
    """Environment that gives a rank's n-th server a GPU behind those of the trainer's ranks, or the rank's own one where that is
    ``shared``; empty without GPUs."""
    if not torch.cuda.is_available():
        return {}
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    ids = visible.split(",") if visible else [str(i) for i in range(torch.cuda.device_count())]
    return {"CUDA_VISIBLE_DEVICES": ids[local_rank if shared else local_ranks * (1 + server) + local_rank]}
