"""Rollouts of later iterations, collected by a background thread while the policy learns."""

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import Generic, TypeVar

T = TypeVar("T")


class Prefetcher(Generic[T]):
    """Runs the rollout work of an iteration up to ``staleness`` iterations before it is needed.

    The weights behind an iteration's rollouts never depend on timing: with staleness s the work of
    iteration i is submitted in iteration i - s (in the first iteration if i - s lies before it),
    done in this order by one thread, and waited for in iteration i.
    """

    def __init__(self, staleness: int):
        self.staleness = staleness
        self._thread = ThreadPoolExecutor(1, "rollouts")
        self._futures: dict[int, Future[T]] = {}
        self._next: int | None = None

    def due(self, iteration: int, last: int) -> range:
        """The iterations up to ``last`` whose work the caller must submit in ``iteration``."""
        start = iteration if self._next is None else self._next
        self._next = max(start, min(iteration + self.staleness, last) + 1)
        return range(start, self._next)

    def submit(self, iteration: int, work: Callable[[], T]) -> None:
        """Have the thread do ``work`` for ``iteration`` after the work submitted earlier."""
        self._futures[iteration] = self._thread.submit(work)

    def result(self, iteration: int) -> T:
        """Wait for the work of ``iteration``; return its result, or raise its exception."""
        return self._futures.pop(iteration).result()

    def drain(self) -> None:
        """Wait until all submitted work is done, so that the caller may use the engine."""
        wait(self._futures.values())

    def close(self) -> None:
        """Cancel work that has not begun, and wait for the rest."""
        self._thread.shutdown(cancel_futures=True)
