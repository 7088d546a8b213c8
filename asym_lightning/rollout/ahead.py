"""Work for later iterations, done by a background thread while the present one learns."""

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import Generic, TypeVar

T = TypeVar("T")


class Ahead(Generic[T]):
    """Hands out the rollouts of iterations, made up to ``staleness`` iterations before they are learned from.

    What an iteration is made of never depends on timing: with staleness s the work of iteration i is given in iteration i - s (in the
    first one for those before s), done in this order by one thread, and waited for in iteration i.
    """

    def __init__(self, staleness: int):
        self.staleness = staleness
        self._thread = ThreadPoolExecutor(1, "rollouts")
        self._made: dict[int, Future[T]] = {}
        self._next: int | None = None

    def due(self, iteration: int, last: int) -> range:
        """The iterations whose work is to be given in ``iteration``; none after ``last``."""
        start = iteration if self._next is None else self._next
        self._next = max(start, min(iteration + self.staleness, last) + 1)
        return range(start, self._next)

    def give(self, iteration: int, work: Callable[[], T]) -> None:
        self._made[iteration] = self._thread.submit(work)

    def take(self, iteration: int) -> T:
        """What was made for ``iteration``; waits for it. Raises what the work raised."""
        return self._made.pop(iteration).result()

    def rest(self) -> None:
        """Wait until all given work is done, so that the engine may be used otherwise."""
        wait(self._made.values())

    def close(self) -> None:
        """Drop what was not begun, and wait for what was."""
        self._thread.shutdown(cancel_futures=True)
