"""Scoring a batch of answers with the supervised processes that every jailed scorer uses."""

import json
import os
import signal
import sys
import threading
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from asym_lightning.checks import Count, Positive, validated
from asym_lightning.runtime.watch.phases import mark
from asym_lightning.types import Kind, Verdict
from asym_lightning.verify.base import TRUNCATED, check_lengths
from asym_lightning.verify.supervised import EXIT_GRACE_S, Worker

# Tries of an answer whose worker was killed from outside.
_TRIES_AFTER_KILL = 5
# Tries of an answer whose worker crashed by itself.
_TRIES_AFTER_CRASH = 2
_WATCH_S = 0.05
# Share of the time limit that an answer has. In the rest its worker is ended and replaced, so that
# a batch loses the limit at most.
_ANSWER_SHARE = 0.9
# Sent ahead to a worker: less than a pipe holds.
_MAX_JOBS, _MAX_BYTES = 8, 32768


@dataclass
class _Job:
    """One answer to score. ``line`` goes to a worker; ``tries`` counts the workers lost over it."""

    id: int
    line: bytes
    tries: int = 0


@validated
class WorkerPool:
    """Scores ``(text, reference)`` pairs in jailed processes.

    The processes start with the first batch and stay for the next ones.

    Args:
        scorer: import path ``module:factory``; in the worker, ``factory(**options)`` returns a
            function ``(text, reference) -> {"kind", "reward", "answer", "detail"}``.
        options: JSON values for the factory.
        timeout_s: seconds that one answer may cost; shortly before, its worker is killed, even
            within C code, and replaced.
        workers: number of processes.
        memory_gb: address space of one worker (GiB).
        needs_kernel: refuse to score where the kernel's jail does not hold.

    Raises:
        FieldError: a number is not above 0.
    """

    def __init__(
        self,
        scorer: str,
        options: dict[str, Any],
        timeout_s: Positive,
        workers: Count,
        memory_gb: Positive,
        needs_kernel: bool = False,
    ) -> None:
        checkout = str(Path(__file__).resolve().parents[2])
        path = [*(entry if entry else os.getcwd() for entry in sys.path), checkout]
        self._settings = {
            "path": path,
            "memory_bytes": int(memory_gb * 2**30),
            "scorer": scorer,
            "options": options,
        }
        self.timeout_s, self._count, self._needs_kernel = timeout_s, workers, needs_kernel
        self._lock = threading.Lock()
        self.workers: list[Worker] = []
        self._threads: ThreadPoolExecutor | None = None

    def score(self, pairs: Sequence[tuple[str, str]]) -> list[Verdict]:
        """Return a verdict for each ``(completion or answer, reference)``, in order.

        Threads take turns: one batch at a time uses the workers.

        Raises ``RuntimeError`` when the workers cannot start.
        """
        if not pairs:
            return []
        with self._lock:
            threads = self._open()
            return _Batch(self, pairs).run(threads)

    def score_found(
        self,
        find: Callable[[str], str | Verdict],
        completions: Sequence[str],
        references: Sequence[str],
        truncated: Sequence[bool],
        as_written: Callable[[str], str] | None = None,
    ) -> list[Verdict]:
        """Score the text that ``find`` takes from each completion, in order.

        Where ``find`` returns a verdict, it stays as it is. ``as_written`` makes ``Verdict.text``
        of a text that ``find`` took; without it no verdict has one. It is made here, not in the
        worker: what a hijacked worker says must not stand for what the completion says. Raises as
        ``score``, and ``ValueError`` when the arguments differ in length.
        """
        check_lengths(completions, references, truncated)
        items = [
            TRUNCATED if cut else find(text)
            for text, cut in zip(completions, truncated, strict=True)
        ]
        pairs = [
            (item, reference)
            for item, reference in zip(items, references, strict=True)
            if isinstance(item, str)
        ]
        scored = self.score(pairs)
        if as_written is not None:
            scored = [
                replace(verdict, text=as_written(text), reference=reference)
                for verdict, (text, reference) in zip(scored, pairs, strict=True)
            ]
        verdicts = iter(scored)
        return [next(verdicts) if isinstance(item, str) else item for item in items]

    def _open(self) -> ThreadPoolExecutor:
        """Return the threads that start and use the workers; the first call creates both.

        The threads outlive a batch because Linux ends a worker with the thread that started it.
        """
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
    """The answers of one call of ``WorkerPool.score``: the waiting jobs and the verdicts so far."""

    def __init__(self, pool: WorkerPool, pairs: Sequence[tuple[str, str]]) -> None:
        self._pool, self._timeout_s = pool, pool.timeout_s * _ANSWER_SHARE
        jobs = (
            {"id": i, "text": text, "reference": reference, "timeout_s": pool.timeout_s}
            for i, (text, reference) in enumerate(pairs)
        )
        self._todo = deque(_Job(i, json.dumps(job).encode() + b"\n") for i, job in enumerate(jobs))
        self._lock = threading.Lock()
        self._stopped = False
        self._verdicts: list[Verdict | None] = [None] * len(pairs)

    def run(self, threads: ThreadPoolExecutor) -> list[Verdict]:
        """Score all answers, one thread per worker, while this thread watches for late replies."""
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

    def _take(self) -> list[_Job]:
        """Take the next jobs for one worker.

        Fewer towards the end of the batch, so that no job waits behind another while workers idle.
        """
        with self._lock:
            limit = max(1, min(_MAX_JOBS, len(self._todo) // (2 * len(self._pool.workers))))
            jobs: list[_Job] = []
            size = 0
            while self._todo and len(jobs) < limit:
                size += len(self._todo[0].line)
                if jobs and size > _MAX_BYTES:
                    break
                jobs.append(self._todo.popleft())
            return jobs

    def _serve(self, worker: Worker) -> None:
        """Send jobs to a worker and record the verdicts, until no job waits."""
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

    def _judge(
        self, worker: Worker, job: _Job, reply: dict[str, Any] | None
    ) -> tuple[Verdict | None, bool]:
        """Return the verdict on a job and whether the worker can go on.

        The verdict is ``None`` if the job needs another try.
        """
        if reply is not None and reply.get("id") == job.id:
            verdict = _verdict(reply)
            if verdict is not None:
                alive = not (worker.late or reply.get("spent"))
                if not alive:
                    worker.stop()
                return verdict, alive
        late = worker.late
        status = worker.stop(EXIT_GRACE_S if reply is None else 0.0)
        if late:
            detail = f"no result within {self._pool.timeout_s:g} s"
            return Verdict(0.0, Kind.TIMEOUT, detail=detail), False
        if reply is not None:
            detail = "the worker process sent a reply that is not a verdict on this answer"
            return Verdict(0.0, Kind.ERROR, detail=detail), False
        job.tries += 1
        tries = _TRIES_AFTER_KILL if status == -signal.SIGKILL else _TRIES_AFTER_CRASH
        if self._stopped or job.tries >= tries:
            detail = f"the worker process died {job.tries} times, last with status {status}"
            return Verdict(0.0, Kind.ERROR, detail=detail), False
        return None, False


def _verdict(reply: dict[str, Any]) -> Verdict | None:
    """Convert a worker's reply into a verdict; ``None`` if it is not valid.

    A reply is checked because the answer may have hijacked the process.
    """
    kind, reward, answer = reply.get("kind"), reply.get("reward", 0.0), reply.get("answer")
    if kind not in list(Kind):
        return None
    if isinstance(reward, bool) or not isinstance(reward, int | float):
        return None
    if not abs(reward) < float("inf"):
        return None
    return Verdict(
        float(reward),
        Kind(kind),
        answer=None if answer is None else str(answer),
        detail=str(reply.get("detail") or ""),
    )
