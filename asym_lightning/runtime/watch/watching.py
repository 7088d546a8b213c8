"""The watchdog of a rank: it ends a run if a rank fails, dies or stands still, and reports why.

Ranks publish reports in the store by which they found each other (torch's TCPStore). Each rank
checks the processes of its own machine and rank 0; rank 0 checks all ranks. The first rank to see
the cause that ends the run records it in the store, once.
"""

import faulthandler
import itertools
import json
import logging
import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import asdict, replace
from datetime import timedelta
from typing import Any

import torch

from asym_lightning.runtime.log import ALL_RANKS
from asym_lightning.runtime.watch.phases import begin, training_state
from asym_lightning.runtime.watch.processes import how_it_ended, machine, whereabouts
from asym_lightning.runtime.watch.reports import Cause, Report, message, standstill

log = logging.getLogger(__name__)
# Time from one check to the next, in seconds. A phase that begins is checked at once, but not
# within SHORTEST_S of the last check.
PERIOD_S, SHORTEST_S = 0.5, 0.1
START_S = 3600.0  # limit of the first iteration: engines start, layers are compiled
STORE_S = 60.0  # limit of a call of the store
# Time from an error in a call that waits for other ranks until it is known whether one failed
# before.
EVIDENCE_S = 3.0
GRACE_S = 10.0  # for a failed rank to report its own error
LAST_S = 5.0  # for the other processes of this machine to end
LEAVE_S = 120.0  # from an exception to the end of the process
_runs = itertools.count()
begun = threading.Event()  # set for good when the first watchdog of this process begins


def store(world: int) -> Any:
    """Connect to the store of this run's process group; with one process, return a local store."""
    if world == 1:
        return torch.distributed.HashStore()
    address, port = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
    client = torch.distributed.TCPStore(
        address, port, timeout=timedelta(seconds=STORE_S), wait_for_workers=False
    )
    attempt = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")
    return torch.distributed.PrefixStore(f"watch/{attempt}/{next(_runs)}", client)


class Watch:
    """The watchdog of one rank. The training thread starts it when all ranks have found each other.

    Args:
        connection: see :func:`store`.
        limit_s: seconds without progress of any rank after which the run ends.
        note: records in the run's folder why the run ended.
    """

    def __init__(
        self, connection: Any, rank: int, world: int, limit_s: float, note: Callable[[str], None]
    ) -> None:
        self.rank, self.world, self.limit_s, self.note = rank, world, limit_s, note
        self.state, self.warm = "running", False
        self._store = connection
        self._report = Report(rank, pid=os.getpid(), machine=machine())
        # Rank -> process id, for the other ranks of this machine.
        self._neighbours: dict[int, int] = {}
        # Rank -> its last report and the time when it was first read.
        self._seen: dict[int, tuple[Report, float]] = {}
        self._marks, self._progress_at, self._armed_at = -1, time.monotonic(), float("-inf")
        self._leave_by = float("inf")
        self._cause: Cause | None = None
        self._stop = threading.Event()
        self._ending, self._publishing = threading.Lock(), threading.Lock()
        self._thread = threading.Thread(target=self._run, name="watch", daemon=True)

    def start(self, iteration: int, timeout: timedelta) -> None:
        """Begin, and return when all ranks have begun.

        Raises:
            torch.distributed.DistError: a rank does not begin within ``timeout``.
        """
        begin(iteration)
        self._publish()
        self._store.wait([f"rank/{rank}" for rank in range(self.world)], timeout)
        for report in self._read(range(self.world)):
            if report.machine == self._report.machine and report.rank != self.rank:
                self._neighbours[report.rank] = report.pid
        begun.set()
        self._thread.start()

    def finish(self) -> None:
        """End the watch of a rank that has done its part.

        Rank 0 waits here until all ranks are done, since the store may be in its process.
        """
        self.state = "done"
        try:
            self._publish()
            pending = set(range(self.world)) if self.rank == 0 else set()
            while pending and self._thread.is_alive():
                pending -= {report.rank for report in self._read(pending) if report.state == "done"}
                time.sleep(0.02 if pending else 0)
        except RuntimeError:  # the store ended with rank 0, which had done its part
            pass
        self._stop_thread()

    def failed(self, error: BaseException) -> None:
        """Handle the exception that ends training in this rank.

        Return if this rank reports the exception in the usual way. If the end of another rank
        caused it, report that cause and end this process.
        """
        if self.world == 1:
            self._stop_thread()
            return
        self._leave_by = time.monotonic() + LEAVE_S
        self.state = "failing"
        with suppress(RuntimeError):
            self._publish()
        interrupted = isinstance(error, KeyboardInterrupt | SystemExit)
        kind = "interrupted" if interrupted else "failed"
        local = Cause(self.rank, kind, f"{type(error).__name__}: {error}")
        of_others = type(error) is RuntimeError or isinstance(error, torch.distributed.DistError)
        cause = self._await_cause(EVIDENCE_S if of_others else 0.0) or self._record(local)
        if of_others and cause.rank != self.rank and cause.text != local.text:
            self._end(cause)
        if cause == local and not interrupted:
            self._tell(local)
        if self.rank == 0:
            # The store may end with this process; the other ranks read it before.
            time.sleep(2 * PERIOD_S)

    def _run(self) -> None:
        try:
            while not self._stop.is_set():
                self._check()
                time.sleep(SHORTEST_S)
                training_state.changed.wait(PERIOD_S - SHORTEST_S)
                training_state.changed.clear()
        except Exception:  # an error of the watchdog must not end the run
            faulthandler.cancel_dump_traceback_later()
            traceback.print_exc()
            text = f"rank {self.rank} is no longer watched (callbacks.watchdog)"
            log.warning(text, extra=ALL_RANKS)

    def _check(self) -> None:
        try:
            self._publish()
            cause = self._recorded_cause() or self._death() or self._standstill()
        except RuntimeError:
            cause = self._cause_without_store()
        if cause is not None and self.state == "running" and not self._stop.is_set():
            self._end_for(cause)
        if time.monotonic() > self._leave_by:
            os._exit(1)
        self._arm()

    def _arm(self) -> None:
        """Arm a timer that ends this process if the watchdog itself is stuck.

        The timer's thread needs neither Python's lock nor the store.
        """
        now = time.monotonic()
        if now > self._armed_at + min(60.0, self._limit / 4):
            faulthandler.dump_traceback_later(self._limit * 1.25 + 2 * STORE_S, exit=True, file=2)
            self._armed_at = now

    @property
    def _limit(self) -> float:
        return self.limit_s if self.warm else max(START_S, self.limit_s)

    def _publish(self) -> None:
        """Write this rank's report to the store."""
        with self._publishing:
            now = time.monotonic()
            if training_state.marks != self._marks:
                self._marks, self._progress_at = training_state.marks, now
            idle = now - self._progress_at
            where, waiting = self._report.where, self._report.waiting
            # In the other states the training thread leaves training, or calls this function.
            if self.state == "running":
                where, waiting = "", False
                if idle >= PERIOD_S:
                    where, waiting = whereabouts(sys._current_frames().get(training_state.thread))
            self._report = replace(
                self._report,
                phase=training_state.phase,
                iteration=training_state.iteration,
                idle_s=idle,
                where=where,
                waiting=waiting and self.world > 1,
                state=self.state,
                beat=self._report.beat + 1,
            )
            self._store.set(f"rank/{self.rank}", json.dumps(asdict(self._report)))

    def _read(self, ranks: Iterable[int]) -> list[Report]:
        """Return the newest reports of these ranks, with the time since they came."""
        ranks, now = list(ranks), time.monotonic()
        for text in self._store.multi_get([f"rank/{rank}" for rank in ranks]):
            report = Report(**json.loads(text))
            if report.rank not in self._seen or self._seen[report.rank][0].beat != report.beat:
                self._seen[report.rank] = report, now
        reports = []
        for report, read_at in (self._seen[rank] for rank in ranks):
            silent = now - read_at
            reports.append(replace(report, silent_s=silent, idle_s=report.idle_s + silent))
        return reports

    def _reports(self) -> list[Report]:
        """Return the reports of all ranks; without the store, the last ones that were read."""
        try:
            self._publish()
            return self._read(range(self.world))
        except RuntimeError:
            others = [report for rank, (report, _) in self._seen.items() if rank != self.rank]
            return [self._report, *others]

    def _recorded_cause(self) -> Cause | None:
        """Return the recorded cause that ends the run, if there is one."""
        if self._cause is None and self._store.check(["cause"]):
            self._cause = Cause(**json.loads(self._store.get("cause")))
        return self._cause

    def _record(self, cause: Cause) -> Cause:
        """Record the cause that ends the run, unless one is recorded; return the recorded cause."""
        try:
            recorded = self._store.compare_set("cause", "", json.dumps(asdict(cause)))
            self._cause = Cause(**json.loads(recorded))
        except RuntimeError:
            self._cause = cause
        return self._cause

    def _death(self) -> Cause | None:
        for rank, pid in self._neighbours.items():
            how = how_it_ended(pid)
            if how is not None and self._read([rank])[0].state != "done":
                return self._record(Cause(rank, "died", how))
        return None

    def _standstill(self) -> Cause | None:
        if self.rank == 0:
            cause = standstill(self._read(range(self.world)), self._limit)
        else:
            first = self._read([0])
            cause = standstill(first, self._limit) if first[0].silent_s > self._limit else None
        return self._record(cause) if cause else None

    def _cause_without_store(self) -> Cause | None:
        """Return the cause if the store is gone; None if rank 0 was done.

        The store is in the process of rank 0, or in torchrun's process on the same machine.
        """
        first = self._seen[0][0]
        if first.state == "done":
            return None
        same_machine = first.machine == self._report.machine
        alive = self.rank == 0 or (same_machine and how_it_ended(first.pid) is None)
        return Cause(-1 if alive else 0, "died")

    def _await_cause(self, wait_s: float) -> Cause | None:
        """Return the cause that ends the run; None if no cause shows within ``wait_s``."""
        until = time.monotonic() + wait_s
        while True:
            try:
                if (cause := self._recorded_cause() or self._death()) is not None:
                    return cause
            except RuntimeError:
                return self._cause_without_store()
            if time.monotonic() >= until:
                return None
            time.sleep(0.05)

    def _end_for(self, cause: Cause) -> None:
        """End this process because of a cause that was found in the store or by a check.

        A rank that failed may report its own error first, and the training thread of this rank may
        leave by itself.
        """
        if cause.kind in ("failed", "interrupted"):
            pid, until = self._neighbours.get(cause.rank), time.monotonic() + GRACE_S
            while self.state == "running" and time.monotonic() < until:
                if pid is not None and how_it_ended(pid) is not None:
                    break
                time.sleep(0.05)
        if self.state == "running":
            self._end(cause)

    def _end(self, cause: Cause) -> None:
        """Report the cause, if this is the rank that does, and end this process."""
        if not self._ending.acquire(blocking=False):
            time.sleep(LEAVE_S)  # the other thread ends this process
        faulthandler.dump_traceback_later(LEAVE_S, exit=True, file=2)
        if cause.rank == self.rank:
            stack = "".join(
                traceback.format_stack(sys._current_frames().get(training_state.thread))
            )
            text = f"rank {self.rank}, stack of the training thread:\n{stack.rstrip()}"
            log.warning(text, extra=ALL_RANKS)
        if cause.speaker == self.rank:
            self._tell(cause)
        sys.stdout.flush()
        sys.stderr.flush()
        if self.rank in (0, cause.speaker):
            self._await_neighbours(cause.rank)
        os._exit(130 if cause.kind == "interrupted" else 1)

    def _tell(self, cause: Cause) -> None:
        """Log the error if this rank speaks, and record it in the folder of the run."""
        text = message(cause, self._reports())
        if cause.speaker == self.rank:
            log.error(text, extra=ALL_RANKS)
        try:
            self.note(text)
        # A full disk, say: the process must end all the same.
        except Exception:
            traceback.print_exc()

    def _await_neighbours(self, culprit: int) -> None:
        """Let the other ranks of this machine end first; kill the culprit if it does not.

        They may have to end with this process, and would then not print their errors.
        """
        until = time.monotonic() + LAST_S
        pids = self._neighbours.values()
        while time.monotonic() < until and any(how_it_ended(pid) is None for pid in pids):
            time.sleep(0.05)
        if culprit in self._neighbours and how_it_ended(self._neighbours[culprit]) is None:
            kill = signal.SIGTERM if sys.platform == "win32" else signal.SIGKILL
            os.kill(self._neighbours[culprit], kill)

    def _stop_thread(self) -> None:
        self._stop.set()
        training_state.changed.set()
        if self._thread.is_alive():
            self._thread.join()
        faulthandler.cancel_dump_traceback_later()
