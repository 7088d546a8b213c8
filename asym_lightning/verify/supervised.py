"""A supervised process that scores untrusted answers: started, watched, killed when late, replaced.

Plain subprocesses and JSON lines instead of the pools of pebble or multiprocessing. Their spawned
workers import the entry script again: torch with it (seconds for each replaced worker), and an
endless recursion in a script without a main guard. Their forked workers copy a trainer that holds
threads and a GPU. Both kinds inherit the environment and send pickles, which a hijacked worker
could forge into code that runs in the trainer.
"""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

# A process whose pipe has closed has this long to end by itself, so that its exit status is seen.
EXIT_GRACE_S = 1.0

_SCRIPT = Path(__file__).with_name("worker.py")
_START_TIMEOUT_S = 120.0
# Attempts to start a worker that something outside kills.
_STARTS = 20
_MAX_REPLY_BYTES = 16384
_KEPT_VARIABLES = ("SYSTEMROOT", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH")
_ONE_THREAD = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}


class Worker:
    """One supervised process, started on first use and again after it died or was killed.

    One thread at a time uses it; another thread calls ``watch``.

    Args:
        settings: the first line that the process reads: import path, memory limit, scorer and its
            options (see ``worker.py``).
        needs_kernel: refuse to start where the kernel's jail does not hold.
    """

    def __init__(self, settings: dict[str, Any], needs_kernel: bool) -> None:
        self._settings, self._needs_kernel = settings, needs_kernel
        # Between the thread that uses the process and the one that watches it.
        self._lock = threading.Lock()
        self._deadline: float | None = None
        self._late = False
        self._spare_at: float | None = None
        # The successor: starts while an answer takes long, so that a kill does not cost a start.
        self._spare: subprocess.Popen[bytes] | None = None
        self.process: subprocess.Popen[bytes] | None = None

    def watch(self) -> None:
        """Kill the process if its reply is overdue; start its successor after half of the time.

        Called by the watching thread.
        """
        with self._lock:
            if self._spare is None and _is_past(self._spare_at):
                self._spare = self._spawn()
            if self.process is not None and _is_past(self._deadline):
                self._late, self._deadline = True, None
                self.process.kill()

    def ready(self) -> None:
        """Start the process unless it runs. Raises ``RuntimeError`` when it cannot start."""
        for _ in range(_STARTS):
            if self.process is not None and self.process.poll() is None:
                return
            reply = self._start()
            if reply is not None and reply["kind"] == "ready":
                if reply["jail"] and self._needs_kernel:
                    self.stop()
                    raise RuntimeError(
                        f"the scorer {self._settings['scorer']} runs only in the kernel's jail, "
                        f"which does not hold in its worker: {reply['jail']}"
                    )
                return
            late, status = self._late, self.stop(EXIT_GRACE_S)
            if reply is not None or late or status != -signal.SIGKILL:
                if reply:
                    cause = reply["detail"]
                elif late:
                    cause = f"no reply within {_START_TIMEOUT_S:g} s"
                else:
                    cause = f"status {status}"
                raise RuntimeError(f"the scoring worker does not start: {cause}")
        raise RuntimeError(
            f"the scoring worker does not start: it was killed {_STARTS} times, "
            "by another process or because memory ran out"
        )

    def _spawn(self) -> subprocess.Popen[bytes]:
        # No other variable passes: model output must not reach secrets of the environment.
        environment = {name: os.environ[name] for name in _KEPT_VARIABLES if name in os.environ}
        process = subprocess.Popen(
            [sys.executable, "-I", str(_SCRIPT)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=environment | _ONE_THREAD,
            # Ctrl-C reaches the trainer alone, which handles it.
            start_new_session=True,
        )
        _send(process, json.dumps(self._settings).encode() + b"\n")
        return process

    def _start(self) -> dict[str, Any] | None:
        """Replace the process by its successor, or by a new process, and return its first reply."""
        self.stop()
        with self._lock:
            self.process, self._spare = self._spare or self._spawn(), None
        return self.receive(_START_TIMEOUT_S, spare=False)

    def send(self, lines: bytes) -> None:
        """Send jobs to the process, one JSON object per line."""
        assert self.process is not None
        _send(self.process, lines)

    def receive(self, timeout_s: float, spare: bool = True) -> dict[str, Any] | None:
        """Return the next reply, or ``None`` if the process died or was late and killed.

        Args:
            timeout_s: seconds to the reply; then ``watch`` kills the process.
            spare: whether ``watch`` starts a successor after half of this time.
        """
        assert self.process is not None and self.process.stdout is not None
        with self._lock:
            self._late, self._deadline = False, time.monotonic() + timeout_s
            self._spare_at = time.monotonic() + timeout_s / 2 if spare else None
        try:
            line = self.process.stdout.readline(_MAX_REPLY_BYTES)
            reply = json.loads(line)
        except (OSError, ValueError):
            return None
        finally:
            with self._lock:
                self._deadline = self._spare_at = None
        return reply if isinstance(reply, dict) else None

    @property
    def late(self) -> bool:
        """Whether the process was killed because the last awaited reply was overdue."""
        return self._late

    def stop(self, patience_s: float = 0.0) -> int | None:
        """End the process and return its exit status; ``None`` without a process.

        It is killed unless it ends by itself within ``patience_s``.
        """
        with self._lock:
            process, self.process = self.process, None
        if process is None:
            return None
        try:
            status = process.wait(patience_s)
        except subprocess.TimeoutExpired:
            process.kill()
            status = process.wait()
        _close_pipes(process)
        return status

    def close(self) -> None:
        """Kill the process and its successor."""
        self.stop()
        with self._lock:
            spare, self._spare = self._spare, None
        if spare is not None:
            spare.kill()
            spare.wait()
            _close_pipes(spare)


def _is_past(moment: float | None) -> bool:
    return moment is not None and time.monotonic() > moment


def _send(process: subprocess.Popen[bytes], lines: bytes) -> None:
    """Write to a process. The death of the process shows later, when its reply is awaited."""
    assert process.stdin is not None
    try:
        process.stdin.write(lines)
        process.stdin.flush()
    except OSError:
        pass


def _close_pipes(process: subprocess.Popen[bytes]) -> None:
    for pipe in (process.stdin, process.stdout):
        try:
            if pipe is not None:
                pipe.close()
        except OSError:  # unsent bytes of a broken pipe
            pass
