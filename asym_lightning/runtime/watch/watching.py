"""The watch of one rank over itself and the others: a run of which a rank fails, dies or stands still ends, and says why.

Ranks tell of themselves through the store by which they found each other (torch's TCPStore). Every rank looks after the processes of
its own machine and the first rank; the first rank after all. What a run ends of is written down once, by whoever sees it first.
"""

import faulthandler
import itertools
import json
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

from asym_lightning.runtime.watch.phases import begin, here
from asym_lightning.runtime.watch.processes import ended, machine, whereabouts
from asym_lightning.runtime.watch.reports import Cause, Report, message, standstill

PERIOD_S, SHORTEST_S = 0.5, 0.1  # between two looks; when a phase begins there is one at once, but not more often than this
START_S = 3600.0  # the limit until the first iteration is over: engines start, layers are compiled
STORE_S = 60.0  # a call of the store may take
EVIDENCE_S = 3.0  # from an error in a call that waits for others until it is known whether one of them failed before
GRACE_S = 10.0  # for a rank that failed to say why by itself
LAST_S = 5.0  # for the other processes of this machine to end
LEAVE_S = 120.0  # for everything between an exception and the end of the process
_runs = itertools.count()
begun = threading.Event()  # set for good when this process's first watch has begun


def store(world: int) -> Any:
    """A connection of its own to the store of this run's process group; with one process, a store within it."""
    if world == 1:
        return torch.distributed.HashStore()
    address, port = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
    client = torch.distributed.TCPStore(address, port, timeout=timedelta(seconds=STORE_S), wait_for_workers=False)
    attempt = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")
    return torch.distributed.PrefixStore(f"watch/{attempt}/{next(_runs)}", client)


class Watch:
    """Started by the thread that trains, when all ranks have found each other.

    Args:
        connection: see :func:`store`.
        limit_s: seconds without progress of any rank after which the run ends.
        note: writes down in the run's folder what it ended of.
    """

    def __init__(self, connection: Any, rank: int, world: int, limit_s: float, note: Callable[[str], None]) -> None:
        self.rank, self.world, self.limit_s, self.note = rank, world, limit_s, note
        self.state, self.warm = "running", False
        self._store = connection
        self._own = Report(rank, pid=os.getpid(), machine=machine())
        self._neighbours: dict[int, int] = {}  # other ranks of this machine, and their processes
        self._seen: dict[int, tuple[Report, float]] = {}  # the last report of others, and when it came
        self._marks, self._since, self._armed = -1, time.monotonic(), float("-inf")
        self._leave_by = float("inf")
        self._cause: Cause | None = None
        self._stop, self._ending, self._publishing = threading.Event(), threading.Lock(), threading.Lock()
        self._thread = threading.Thread(target=self._run, name="watch", daemon=True)

    def start(self, iteration: int, timeout: timedelta) -> None:
        """Begin; returns when all ranks have. Raises torch's DistError when one does not within ``timeout``."""
        begin(iteration)
        self._publish()
        self._store.wait([f"rank/{rank}" for rank in range(self.world)], timeout)
        self._neighbours = {r.rank: r.pid for r in self._read(range(self.world)) if r.machine == self._own.machine and r.rank != self.rank}
        begun.set()
        self._thread.start()

    def finish(self) -> None:
        """This rank has done its part. The first one stays until all have, since the store may be in its process."""
        self.state = "done"
        try:
            self._publish()
            left = set(range(self.world)) if self.rank == 0 else set()
            while left and self._thread.is_alive():
                left -= {report.rank for report in self._read(left) if report.state == "done"}
                time.sleep(0.02 if left else 0)
        except RuntimeError:  # the store went with the first rank, which had done its part
            pass
        self._quit()

    def failed(self, error: BaseException) -> None:
        """Called with the exception that ends training here. Returns if it is to be told by this rank in the usual way; if it comes of
        another rank's end, that is told, and this process ends."""
        if self.world == 1:
            self._quit()
            return
        self._leave_by = time.monotonic() + LEAVE_S
        self.state = "failing"
        with suppress(RuntimeError):
            self._publish()
        interrupted = isinstance(error, KeyboardInterrupt | SystemExit)
        own = Cause(self.rank, "interrupted" if interrupted else "failed", f"{type(error).__name__}: {error}")
        of_others = type(error) is RuntimeError or isinstance(error, torch.distributed.DistError)
        cause = self._evidence(EVIDENCE_S if of_others else 0.0) or self._declare(own)
        if of_others and cause.rank != self.rank and cause.text != own.text:
            self._end(cause)
        if cause == own and not interrupted:
            self._tell(own)
        if self.rank == 0:
            time.sleep(2 * PERIOD_S)  # with this process the store may go: the others look into it first

    def _run(self) -> None:
        try:
            while not self._stop.is_set():
                self._look()
                time.sleep(SHORTEST_S)
                here.changed.wait(PERIOD_S - SHORTEST_S)
                here.changed.clear()
        except Exception:  # an error of the watch is no reason to end a run
            faulthandler.cancel_dump_traceback_later()
            traceback.print_exc()
            print(f"warning: rank {self.rank} is no longer watched (callbacks.watchdog)", file=sys.stderr, flush=True)

    def _look(self) -> None:
        try:
            self._publish()
            cause = self._known() or self._deaths() or self._standstill()
        except RuntimeError:
            cause = self._without_store()
        if cause is not None and self.state == "running" and not self._stop.is_set():
            self._obey(cause)
        if time.monotonic() > self._leave_by:
            os._exit(1)
        self._arm()

    def _arm(self) -> None:
        """Let a thread that needs neither Python's lock nor the store end this process, should this watch itself be stuck."""
        now = time.monotonic()
        if now > self._armed + min(60.0, self._limit / 4):
            faulthandler.dump_traceback_later(self._limit * 1.25 + 2 * STORE_S, exit=True, file=2)
            self._armed = now

    @property
    def _limit(self) -> float:
        return self.limit_s if self.warm else max(START_S, self.limit_s)

    def _publish(self) -> None:
        with self._publishing:
            now = time.monotonic()
            if here.marks != self._marks:
                self._marks, self._since = here.marks, now
            idle = now - self._since
            where, waiting = self._own.where, self._own.waiting
            if self.state == "running":  # else the training thread is on its way out, or here
                where, waiting = whereabouts(sys._current_frames().get(here.thread)) if idle >= PERIOD_S else ("", False)
            self._own = replace(
                self._own,
                phase=here.phase,
                iteration=here.iteration,
                idle_s=idle,
                where=where,
                waiting=waiting and self.world > 1,
                state=self.state,
                beat=self._own.beat + 1,
            )
            self._store.set(f"rank/{self.rank}", json.dumps(asdict(self._own)))

    def _read(self, ranks: Iterable[int]) -> list[Report]:
        """The newest reports of these ranks, with the time since they came."""
        ranks, now = list(ranks), time.monotonic()
        for text in self._store.multi_get([f"rank/{rank}" for rank in ranks]):
            report = Report(**json.loads(text))
            if report.rank not in self._seen or self._seen[report.rank][0].beat != report.beat:
                self._seen[report.rank] = report, now
        found = [(self._seen[rank][0], now - self._seen[rank][1]) for rank in ranks]
        return [replace(report, silent_s=silent, idle_s=report.idle_s + silent) for report, silent in found]

    def _reports(self) -> list[Report]:
        try:
            self._publish()
            return self._read(range(self.world))
        except RuntimeError:
            return [self._own, *(report for rank, (report, _) in self._seen.items() if rank != self.rank)]

    def _known(self) -> Cause | None:
        """What the run ends of, once it is written down."""
        if self._cause is None and self._store.check(["cause"]):
            self._cause = Cause(**json.loads(self._store.get("cause")))
        return self._cause

    def _declare(self, cause: Cause) -> Cause:
        """Write down what the run ends of, unless that has been done; what stands there."""
        try:
            self._cause = Cause(**json.loads(self._store.compare_set("cause", "", json.dumps(asdict(cause)))))
        except RuntimeError:
            self._cause = cause
        return self._cause

    def _deaths(self) -> Cause | None:
        for rank, pid in self._neighbours.items():
            how = ended(pid)
            if how is not None and self._read([rank])[0].state != "done":
                return self._declare(Cause(rank, "died", how))
        return None

    def _standstill(self) -> Cause | None:
        if self.rank == 0:
            cause = standstill(self._read(range(self.world)), self._limit)
        else:
            first = self._read([0])
            cause = standstill(first, self._limit) if first[0].silent_s > self._limit else None
        return self._declare(cause) if cause else None

    def _without_store(self) -> Cause | None:
        """The store is in the process of the first rank, or in torchrun's on its machine."""
        first = self._seen[0][0]
        if first.state == "done":
            return None
        alive = self.rank == 0 or (first.machine == self._own.machine and ended(first.pid) is None)
        return Cause(-1 if alive else 0, "died")

    def _evidence(self, wait_s: float) -> Cause | None:
        """What the run ends of, as far as it shows within ``wait_s``."""
        until = time.monotonic() + wait_s
        while True:
            try:
                if (cause := self._known() or self._deaths()) is not None:
                    return cause
            except RuntimeError:
                return self._without_store()
            if time.monotonic() >= until:
                return None
            time.sleep(0.05)

    def _obey(self, cause: Cause) -> None:
        """End this process for another's sake, but let one that failed say why first, and the training thread find the way out itself."""
        if cause.kind in ("failed", "interrupted"):
            pid, until = self._neighbours.get(cause.rank), time.monotonic() + GRACE_S
            while self.state == "running" and time.monotonic() < until and (pid is None or ended(pid) is None):
                time.sleep(0.05)
        if self.state == "running":
            self._end(cause)

    def _end(self, cause: Cause) -> None:
        if not self._ending.acquire(blocking=False):
            time.sleep(LEAVE_S)  # the other thread ends this process
        faulthandler.dump_traceback_later(LEAVE_S, exit=True, file=2)
        if cause.rank == self.rank:
            stack = "".join(traceback.format_stack(sys._current_frames().get(here.thread)))
            print(f"rank {self.rank}, the thread that trains:\n{stack}", file=sys.stderr, end="", flush=True)
        if cause.speaker == self.rank:
            self._tell(cause)
        sys.stdout.flush()
        sys.stderr.flush()
        if self.rank in (0, cause.speaker):
            self._last_of_this_machine(cause.rank)
        os._exit(130 if cause.kind == "interrupted" else 1)

    def _tell(self, cause: Cause) -> None:
        """Print it where it is to be seen first, and write it down where it may be known first."""
        text = message(cause, self._reports())
        if cause.speaker == self.rank:
            print(f"error: {text}", file=sys.stderr, flush=True)
        try:
            self.note(text)
        except Exception:
            traceback.print_exc()

    def _last_of_this_machine(self, culprit: int) -> None:
        """Let the others end before this process, with which they may have to end, and have their say; kill one that cannot."""
        until = time.monotonic() + LAST_S
        while time.monotonic() < until and any(ended(pid) is None for pid in self._neighbours.values()):
            time.sleep(0.05)
        if culprit in self._neighbours and ended(self._neighbours[culprit]) is None:
            os.kill(self._neighbours[culprit], signal.SIGTERM if sys.platform == "win32" else signal.SIGKILL)

    def _quit(self) -> None:
        self._stop.set()
        here.changed.set()
        if self._thread.is_alive():
            self._thread.join()
        faulthandler.cancel_dump_traceback_later()
