"""Mathematical answers: math-verify in jailed worker processes with a time limit per answer.

Plain subprocesses and JSON lines rather than a multiprocessing pool: a spawned pool worker imports the entry script again (and torch
with it, seconds for each replaced worker), inherits the environment, and sends pickles, which a hijacked worker could forge.
"""

import importlib.util
import json
import os
import queue
import subprocess
import sys
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path
from typing import Any

from asym_lightning.types import ConfigError, Kind, Verdict
from asym_lightning.verify.base import TRUNCATED, check_lengths

_BOX = "\\boxed"
_SCRIPT = Path(__file__).with_name("math_worker.py")
_START_TIMEOUT_S = 120.0
_MAX_REPLY_BYTES = 16384
_KEPT_VARIABLES = ("SYSTEMROOT", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH")


def last_boxed(text: str) -> tuple[str | None, bool]:
    """Content of the last ``\\boxed{}`` and whether there is a box at all: ``(None, True)`` is a box that never closes.

    Braces are balanced, escaped ones do not count; ``\\boxed 5`` boxes the single token that follows, as in LaTeX sources of MATH.
    """
    start = text.rfind(_BOX)
    if start < 0:
        return None, False
    at = start + len(_BOX)
    while at < len(text) and text[at].isspace():
        at += 1
    if text[at : at + 1] != "{":
        return text[at:].split("$", 1)[0].strip().rstrip(".") if at > start + len(_BOX) else None, True
    first, depth = at + 1, 0
    while at < len(text):
        char = text[at]
        if char == "\\":
            at += 1
        elif char == "{":
            depth += 1
        elif char == "}":
            depth -= 1
            if depth == 0:
                return text[first:at].strip(), True
        at += 1
    return None, True


class _Worker:
    """One supervised process. Used by one thread at a time; started on first use, and again after it died or was killed."""

    def __init__(self, memory_gb: float) -> None:
        self._settings = {"path": [entry for entry in sys.path if entry], "memory_bytes": int(memory_gb * 2**30)}
        self._process: subprocess.Popen[bytes] | None = None

    def ask(self, answer: str, gold: str, timeout_s: float) -> dict[str, Any]:
        """The worker's reply; kind ``timeout`` or ``error`` where it gave none. Raises ``RuntimeError`` when none can start."""
        if self._process is None or self._process.poll() is not None:
            self._start()
        reply, late = self._exchange({"answer": answer, "gold": gold, "timeout_s": timeout_s}, timeout_s)
        if reply is None:
            status = self.stop()
            if late:
                return {"kind": "timeout", "detail": f"no result within {timeout_s:g} s"}
            return {"kind": "error", "detail": f"the worker process died with status {status}"}
        if late or reply["kind"] == "error":  # killed at the last moment, or perhaps out of memory
            self.stop()
        return reply

    def _start(self) -> None:
        self.stop()
        self._process = subprocess.Popen(
            [sys.executable, "-I", str(_SCRIPT)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env={name: os.environ[name] for name in _KEPT_VARIABLES if name in os.environ},  # no secrets for model output
            start_new_session=True,  # Ctrl-C is the trainer's to handle
        )
        reply, late = self._exchange(self._settings, _START_TIMEOUT_S)
        if reply is None or reply["kind"] != "ready":
            why = reply["detail"] if reply else f"nothing heard within {_START_TIMEOUT_S:g} s" if late else f"status {self.stop()}"
            self.stop()
            raise RuntimeError(f"the math-verify worker does not start: {why}")

    def _exchange(self, message: dict[str, Any], timeout_s: float) -> tuple[dict[str, Any] | None, bool]:
        """Send one line, read one; ``(reply or None, whether the process was killed for being late)``."""
        process = self._process
        assert process is not None and process.stdin is not None and process.stdout is not None
        late = threading.Event()

        def expire() -> None:
            late.set()
            process.kill()

        timer = threading.Timer(timeout_s, expire)
        timer.start()
        try:
            process.stdin.write(json.dumps(message).encode() + b"\n")
            process.stdin.flush()
            line = process.stdout.readline(_MAX_REPLY_BYTES)
        except OSError:
            line = b""
        finally:
            timer.cancel()
            timer.join()
        try:
            return json.loads(line), late.is_set()
        except ValueError:
            return None, late.is_set()

    def stop(self) -> int | None:
        """Kill the process if there is one; its exit status."""
        process, self._process = self._process, None
        if process is None:
            return None
        process.kill()
        status = process.wait()
        for pipe in (process.stdin, process.stdout):
            try:
                if pipe is not None:
                    pipe.close()
            except OSError:  # unsent bytes of a broken pipe
                pass
        return status


class MathVerifier:
    """Compares the last ``\\boxed{}`` of a completion with the reference by math-verify.

    ``timeout_s``: seconds per answer, after which its worker is killed and replaced; ``workers``: processes, started on the first
    ``score``; ``max_chars``: a longer answer is ``unparseable``; ``memory_gb``: address space of a worker (GiB).
    Raises ``ConfigError`` for values that cannot work and where math-verify is missing.
    """

    def __init__(self, timeout_s: float = 5.0, workers: int = 2, max_chars: int = 1000, memory_gb: float = 4.0) -> None:
        for name, value in (("timeout_s", timeout_s), ("workers", workers), ("max_chars", max_chars), ("memory_gb", memory_gb)):
            if value <= 0:
                raise ConfigError(f"task.verify.{name}={value} must be above 0")
        if importlib.util.find_spec("math_verify") is None:
            raise ConfigError("math-verify is not installed, which scores mathematical answers: pip install math-verify[antlr4_13_2]")
        self.timeout_s, self.workers, self.max_chars, self.memory_gb = timeout_s, workers, max_chars, memory_gb
        self._pool: list[_Worker] = []

    def score(self, completions: Sequence[str], answers: Sequence[str], truncated: Sequence[bool]) -> list[Verdict]:
        """See ``Verifier.score``. Raises ``RuntimeError`` when the workers cannot be started."""
        check_lengths(completions, answers, truncated)
        if not completions:
            return []
        if not self._pool:
            self._pool = [_Worker(self.memory_gb) for _ in range(self.workers)]
        idle: queue.SimpleQueue[_Worker] = queue.SimpleQueue()
        for worker in self._pool:
            idle.put(worker)
        with ThreadPoolExecutor(self.workers) as threads:
            return list(threads.map(lambda item: self._verify(idle, *item), zip(completions, answers, truncated, strict=True)))

    def close(self) -> None:
        """Kill the workers; the next ``score`` starts new ones."""
        for worker in self._pool:
            worker.stop()
        self._pool = []

    def _verify(self, idle: "queue.SimpleQueue[_Worker]", completion: str, gold: str, cut: bool) -> Verdict:
        if cut:
            return TRUNCATED
        answer, boxed = last_boxed(completion)
        if not boxed or answer == "":
            return Verdict(0.0, Kind.NO_ANSWER)
        if answer is None:
            return Verdict(0.0, Kind.UNPARSEABLE, detail="the last \\boxed has no balanced braces")
        if len(answer) > self.max_chars:
            return Verdict(0.0, Kind.UNPARSEABLE, detail=f"an answer of {len(answer)} characters; at most {self.max_chars} are looked at")
        worker = idle.get()
        try:
            reply = worker.ask(answer, gold, self.timeout_s)
            kind = Kind(reply["kind"])
        finally:
            idle.put(worker)
        return Verdict(float(kind is Kind.CORRECT), kind, reply.get("answer"), reply.get("detail", ""))


@cache
def shared_verifier() -> MathVerifier:
    """The verifier of ``asym_lightning.verify.score_math``; its workers end with this process."""
    return MathVerifier()
