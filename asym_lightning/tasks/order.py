"""The order in which problems are served, and which of them are left out because they are too easy or too hard by now."""

from collections import Counter, deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from asym_lightning.checks import number, positive_int
from asym_lightning.runtime.ranks import gather_rows
from asym_lightning.types import ConfigError, Kind, RolloutGroup


@dataclass(frozen=True)
class Difficulty:
    """The keys ``data.difficulty.*``: a problem is served as long as the accuracy over its last ``groups`` groups is from
    ``min_accuracy`` to ``max_accuracy``, or it has had fewer groups. One that is out of range keeps ``retry_share`` of its turns, so that
    it may come back. From 0 to 1: nothing is left out. Raises ``ConfigError`` for values that cannot be."""

    min_accuracy: float = 0.0
    max_accuracy: float = 1.0
    groups: int = 2
    retry_share: float = 0.0

    def __post_init__(self) -> None:
        for name in ("min_accuracy", "max_accuracy", "retry_share"):
            number(f"data.difficulty.{name}", getattr(self, name), 0, 1)
        positive_int("data.difficulty.groups", self.groups)
        if self.min_accuracy >= self.max_accuracy:
            raise ConfigError(f"data.difficulty.min_accuracy={self.min_accuracy} must be below max_accuracy={self.max_accuracy}")

    @property
    def active(self) -> bool:
        return self.min_accuracy > 0 or self.max_accuracy < 1

    def off(self, seen: Sequence[tuple[int, int]]) -> float:
        """How far the accuracy of groups, given as (right, rollouts), lies above the range, or below it (negative); 0 within, and with
        too few groups."""
        if len(seen) < self.groups:
            return 0.0
        accuracy = sum(right for right, _ in seen) / sum(size for _, size in seen)
        return min(0.0, accuracy - self.min_accuracy) + max(0.0, accuracy - self.max_accuracy)


class ProblemOrder:
    """Which problems an iteration is given, by their index among the training problems; the same on every rank.

    The problems stand in a permutation per pass over them, a function of the seed. Without a difficulty filter the iterations cut it into
    pieces. With one they go along it and skip what is out of range, and what they have already. Where the rest of this pass and one whole
    pass have too few, the nearest to the range are served all the same, and ``note`` says so; it is empty otherwise.

    Args:
        ids: of the training problems; a problem that is listed several times is one problem.
    """

    def __init__(self, ids: Sequence[str], seed: int, difficulty: Difficulty | None = None):
        self.ids, self.seed, self.difficulty = ids, seed, difficulty or Difficulty()
        self.note, self.readmitted = "", 0  # of the last iteration: the line, and its problems that are out of range
        self._index: dict[str, int] = {}  # where a problem is listed first
        self._same = [self._index.setdefault(name, i) for i, name in enumerate(ids)]
        self._seen: dict[int, deque[tuple[int, int]]] = {}
        self._position: int | None = None  # where the next iteration begins
        self._served: tuple[int, list[int]] = (-1, [])
        self._pass: tuple[int, list[int], list[bool]] = (-1, [], [])

    def iteration(self, count: int, size: int) -> list[int]:
        """The problems of iteration number ``count``; each iteration has ``size``. With a filter they are asked for one after the other."""
        if not self.difficulty.active:
            return [self._turn(position)[0] for position in range(count * size, (count + 1) * size)]
        if self._served[0] != count:
            self._served = (count, self._walk(count * size if self._position is None else self._position, size))
        return self._served[1]

    def spare(self, numbers: Iterable[int]) -> list[int]:
        """A problem for each of the numbers, drawn from those in range, from all where none is."""
        pool: Sequence[int] = range(len(self.ids))
        if self.difficulty.active:
            pool = [i for i in pool if not self._off(i)] or pool
        generators = [torch.Generator().manual_seed(self.seed * 1_000_003 + 500_009 + i) for i in numbers]
        return [pool[int(torch.randint(len(pool), (1,), generator=generator))] for generator in generators]

    def observe(self, groups: Sequence[RolloutGroup]) -> None:
        """Remember how many rollouts of each group are right. Called by all ranks alike, each with its own groups."""
        if not self.difficulty.active:
            return
        right = [sum(verdict.kind is Kind.CORRECT for verdict in group.verdicts) for group in groups]
        mine = [[self._index[g.prompt.problem.id], r, len(g.verdicts)] for g, r in zip(groups, right, strict=True)]
        rows, _ = gather_rows(torch.tensor(mine, dtype=torch.float64).reshape(-1, 3))
        for problem, r, size in sorted(rows.long().tolist()):  # sorted: whichever rank had them
            self._seen.setdefault(problem, deque(maxlen=self.difficulty.groups)).append((r, size))

    def out_of_range(self) -> tuple[int, int, int]:
        """How many of the training problems are too easy, how many too hard, and how many there are."""
        off = [self._off(i) for i in self._seen]
        return sum(x > 0 for x in off), sum(x < 0 for x in off), len(self._index)

    def state_dict(self) -> dict[str, Any]:
        """What a resumed run needs to go on in the same order; nothing without a filter."""
        if not self.difficulty.active:
            return {}
        return {"position": self._position, "seen": {self.ids[i]: [list(pair) for pair in seen] for i, seen in self._seen.items()}}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from ``state``; problems that are no longer there are forgotten."""
        self._position, seen, self._served = state.get("position"), state.get("seen", {}), (-1, [])
        known = {self._index[name]: groups for name, groups in seen.items() if name in self._index}
        self._seen = {i: deque([(r, size) for r, size in groups], maxlen=self.difficulty.groups) for i, groups in known.items()}

    def _off(self, index: int) -> float:
        return self.difficulty.off(self._seen.get(self._same[index], ()))  # type: ignore[arg-type]

    def _turn(self, position: int) -> tuple[int, bool]:
        """The problem at a position, and whether it is served there even if it is out of range."""
        sweep, offset = divmod(position, len(self.ids))
        if self._pass[0] != sweep:
            generator = torch.Generator().manual_seed(self.seed * 1_000_003 + sweep)
            order = torch.randperm(len(self.ids), generator=generator).tolist()
            retry = (torch.rand(len(self.ids), generator=generator) < self.difficulty.retry_share).tolist()
            self._pass = (sweep, order, retry)
        return self._pass[1][offset], self._pass[2][offset]

    def _walk(self, start: int, size: int) -> list[int]:
        """The next ``size`` problems from a position on, in the order of their positions."""
        most = -(-size // len(self.ids))  # how often an iteration needs a problem, where it is larger than a pass
        times: Counter[int] = Counter()
        kept: list[tuple[int, int]] = []
        left: list[tuple[float, int, int]] = []
        position = start
        while len(kept) < size and position < (start // len(self.ids) + 1 + most) * len(self.ids):
            index, retry = self._turn(position)
            off = abs(self._off(index))
            if off and not retry:
                left.append((off, position, index))
            elif times[index] < most:
                times[index] += 1
                kept.append((position, index))
            position += 1
        missing, self.note = size - len(kept), ""
        if missing:
            self.note = (
                f"data.difficulty leaves too few problems, {len(kept)} for the {size} prompts of an iteration: "
                f"those nearest to the range are served all the same"
            )
            for _, place, index in sorted(left):
                if times[index] < most and len(kept) < size:
                    times[index] += 1
                    kept.append((place, index))
        self._position = position
        served = [index for _, index in sorted(kept)]
        self.readmitted = sum(self._off(index) != 0 for index in served)
        return served
