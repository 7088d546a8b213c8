"""The supervised processes of every scorer that needs a jail.

Plain subprocesses and JSON lines rather than pebble's or multiprocessing's pools: their workers, spawned, import the entry script
again (and torch with it, seconds for each replaced worker, and an endless recursion in a script without a main guard), or, forked,
copy a trainer that holds threads and a GPU; they inherit the environment; and they send pickles, which a hijacked worker could forge
into code that runs in the trainer.
"""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from asym_lightning.runtime.watch.phases import mark
from asym_lightning.types import ConfigError, Kind, Verdict

_SCRIPT = Path(__file__).with_name("worker.py")
_START_TIMEOUT_S = 120.0
_STARTS = 20  # tries to start a worker that something outside kills
_TRIES = {True: 5, False: 2}  # tries of an answer whose worker was killed from outside, and whose worker crashed by itself
_WATCH_S = 0.05
_OWN_SHARE = 0.9  # of the time limit is the answer's; in the rest its worker is ended and replaced: a batch loses the limit at most
_DYING_S = 1.0  # a process whose pipe has closed is given this long to end, so that its own status is seen
_MAX_REPLY_BYTES = 16384
_MAX_JOBS, _MAX_BYTES = 8, 32768  # sent ahead to a worker: less than a pipe holds
_KEPT_VARIABLES = ("SYSTEMROOT", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH")
_ONE_THREAD = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}


@dataclass
class Job:
    """One answer to score: ``line`` is what its worker reads, ``tries`` counts the workers that were lost over it."""

    id: int
    line: bytes
    tries: int = 0


class Worker:
    """One supervised process. Used by one thread at a time; started on first use, and again after it died or was killed."""

    def __init__(self, settings: dict[str, Any], needs_kernel: bool) -> None:
        self._settings, self._needs_kernel = settings, needs_kernel
        self._lock = threading.Lock()  # between the thread that uses it and the one that watches
        self._deadline: float | None = None
        self._late = False
        self._spare_at: float | None = None
        self._spare: subprocess.Popen[bytes] | None = None  # starts while an answer takes long, so that its end costs no start
        self.process: subprocess.Popen[bytes] | None = None

    def watch(self) -> None:
        """Kill the process if its answer is overdue; at half its time, start its successor. Called by the watching thread."""
        with self._lock:
            if self._spare_at is not None and time.monotonic() > self._spare_at and self._spare is None:
                self._spare = self._spawn()
            if self._deadline is not None and time.monotonic() > self._deadline and self.process is not None:
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
                    raise RuntimeError(f"answers are not scored by {self._settings['scorer']} without the kernel's jail: {reply['jail']}")
                return
            late, status = self._late, self.stop(_DYING_S)
            if reply is not None or late or status != -signal.SIGKILL:
                why = reply["detail"] if reply else f"nothing heard within {_START_TIMEOUT_S:g} s" if late else f"status {status}"
                raise RuntimeError(f"the scoring worker does not start: {why}")
        raise RuntimeError(f"the scoring worker does not start: it was killed {_STARTS} times, by something else or for want of memory")

    def _spawn(self) -> subprocess.Popen[bytes]:
        kept = {name: os.environ[name] for name in _KEPT_VARIABLES if name in os.environ}
        process = subprocess.Popen(
            [sys.executable, "-I", str(_SCRIPT)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=kept | _ONE_THREAD,  # no secrets for model output
            start_new_session=True,  # Ctrl-C is the trainer's to handle
        )
        _send(process, json.dumps(self._settings).encode() + b"\n")
        return process

    def _start(self) -> dict[str, Any] | None:
        self.stop()
        with self._lock:
            self.process, self._spare = self._spare or self._spawn(), None
        return self.receive(_START_TIMEOUT_S, spare=False)

    def send(self, lines: bytes) -> None:
        """Give it jobs."""
        assert self.process is not None
        _send(self.process, lines)

    def receive(self, timeout_s: float, spare: bool = True) -> dict[str, Any] | None:
        """Its next reply, or ``None`` if it died or was killed because none came within ``timeout_s``."""
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
        """Whether it was killed for the last reply awaited."""
        return self._late

    def stop(self, patience_s: float = 0.0) -> int | None:
        """Kill the process if there is one and it does not end by itself within ``patience_s``; its exit status."""
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


def _send(process: subprocess.Popen[bytes], lines: bytes) -> None:
    """Write to a process; one that is gone shows when its reply is awaited."""
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


class WorkerPool:
    """Scores ``(text, reference)`` pairs in jailed processes, which start with the first batch and stay.

    Args:
        scorer: import path ``module:factory``; in the worker, ``factory(**options)`` gives a function
            ``(text, reference) -> {"kind", "reward", "answer", "detail"}``.
        options: JSON values for the factory.
        timeout_s: seconds that one answer may cost; shortly before, its worker is killed, in the midst of C code too, and replaced.
        workers: processes.
        memory_gb: address space of one worker (GiB).
        needs_kernel: refuse to score where the kernel's jail does not hold.

    Raises:
        ConfigError: a number is not above 0.
    """

    def __init__(
        self, scorer: str, options: dict[str, Any], timeout_s: float, workers: int, memory_gb: float, needs_kernel: bool = False
    ) -> None:
        for name, value in (("timeout_s", timeout_s), ("workers", workers), ("memory_gb", memory_gb)):
            if value <= 0:
                raise ConfigError(f"task.verify.{name}={value} must be above 0")
        here = str(Path(__file__).resolve().parents[2])
        path = [*(entry if entry else os.getcwd() for entry in sys.path), here]
        self._settings = {"path": path, "memory_bytes": int(memory_gb * 2**30), "scorer": scorer, "options": options}
        self.timeout_s, self._count, self._needs_kernel = timeout_s, workers, needs_kernel
        self._lock = threading.Lock()
        self.workers: list[Worker] = []
        self._threads: ThreadPoolExecutor | None = None

    def score(self, pairs: Sequence[tuple[str, str]]) -> list[Verdict]:
        """A verdict for each ``(text, reference)``, in order. Raises ``RuntimeError`` when the workers cannot start."""
        if not pairs:
            return []
        with self._lock:
            return _Batch(self, pairs).run(self._open())

    def _open(self) -> ThreadPoolExecutor:
        """The threads that start and use the workers; they outlive a batch because Linux ends a worker with the thread that started it."""
        if self._threads is None:
            self._threads = ThreadPoolExecutor(self._count, thread_name_prefix="verify")
            self.workers = [Worker(self._settings, self._needs_kernel) for _ in range(self._count)]
        return self._threads

    def close(self) -> None:
        """Kill the workers; the next ``score`` starts new ones."""
        with self._lock:
            for worker in self.workers:
                worker.close()
            if self._threads is not None:
                self._threads.shutdown()
            self.workers, self._threads = [], None


class _Batch:
    """The answers of one call: who still waits, and the verdicts so far."""

    def __init__(self, pool: WorkerPool, pairs: Sequence[tuple[str, str]]) -> None:
        self._pool, self._timeout_s = pool, pool.timeout_s * _OWN_SHARE
        jobs = ({"id": i, "text": text, "reference": ref, "timeout_s": pool.timeout_s} for i, (text, ref) in enumerate(pairs))
        self._todo = deque(Job(i, json.dumps(job).encode() + b"\n") for i, job in enumerate(jobs))
        self._lock = threading.Lock()
        self._stopped = False
        self._verdicts: list[Verdict | None] = [None] * len(pairs)

    def run(self, threads: ThreadPoolExecutor) -> list[Verdict]:
        workers = self._pool.workers
        running = [threads.submit(self._serve, worker) for worker in workers]
        try:
            while not all(future.done() for future in running):
                for worker in workers:
                    worker.watch()
                wait(running, timeout=_WATCH_S)
            for future in running:
                future.result()
        except BaseException:
            self._stopped = True
            for worker in workers:
                worker.close()
            raise
        assert all(verdict is not None for verdict in self._verdicts)
        return [verdict for verdict in self._verdicts if verdict is not None]

    def _take(self) -> list[Job]:
        """The next jobs for one worker: fewer towards the end, so that none waits behind another while workers are idle."""
        with self._lock:
            most = max(1, min(_MAX_JOBS, len(self._todo) // (2 * len(self._pool.workers))))
            taken: list[Job] = []
            while self._todo and len(taken) < most and (not taken or sum(len(j.line) for j in [*taken, self._todo[0]]) <= _MAX_BYTES):
                taken.append(self._todo.popleft())
            return taken

    def _serve(self, worker: Worker) -> None:
        """Give jobs to a worker until none is left."""
        try:
            while not self._stopped and (jobs := self._take()):
                worker.ready()
                worker.send(b"".join(job.line for job in jobs))
                while jobs:
                    reply = worker.receive(self._timeout_s)
                    verdict, alive = self._judge(worker, jobs[0], reply)
                    if verdict is not None:
                        mark()
                        self._verdicts[jobs.pop(0).id] = verdict
                    if not alive:
                        break
                with self._lock:
                    self._todo.extendleft(reversed(jobs))
        except BaseException:
            self._stopped = True
            raise

    def _judge(self, worker: Worker, job: Job, reply: dict[str, Any] | None) -> tuple[Verdict | None, bool]:
        """The verdict, or ``None`` if the job is to be tried again, and whether the worker can go on."""
        if reply is not None and reply.get("id") == job.id and (verdict := _verdict(reply)) is not None:
            if worker.late or reply.get("spent"):
                worker.stop()
                return verdict, False
            return verdict, True
        late, status = worker.late, worker.stop(_DYING_S if reply is None else 0.0)
        if late:
            return Verdict(0.0, Kind.TIMEOUT, detail=f"no result within {self._pool.timeout_s:g} s"), False
        if reply is not None:
            return Verdict(0.0, Kind.ERROR, detail="the worker process sent a reply that is none"), False
        job.tries += 1
        if self._stopped or job.tries >= _TRIES[status == -signal.SIGKILL]:
            return Verdict(0.0, Kind.ERROR, detail=f"the worker process died {job.tries} times, last with status {status}"), False
        return None, False


def _verdict(reply: dict[str, Any]) -> Verdict | None:
    """What a worker sent as a verdict, ``None`` if it is none: the process may be under another's command."""
    kind, reward, answer = reply.get("kind"), reply.get("reward", 0.0), reply.get("answer")
    if kind not in list(Kind) or isinstance(reward, bool) or not isinstance(reward, int | float) or not abs(reward) < float("inf"):
        return None
    return Verdict(float(reward), Kind(kind), None if answer is None else str(answer), str(reply.get("detail") or ""))
