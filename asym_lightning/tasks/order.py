"""The order in which problems are served, with a filter for too easy and too hard problems."""

from collections import Counter, deque
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from asym_lightning.checks import Count, Share, validated
from asym_lightning.runtime.ranks import gather_rows
from asym_lightning.types import FieldError, Kind, RolloutGroup


@validated
@dataclass(frozen=True)
class Difficulty:
    """The keys ``data.difficulty.*``: the range of accuracy in which a problem is served.

    A problem is in range while the accuracy over its last ``groups`` groups is from
    ``min_accuracy`` to ``max_accuracy``, or while it has had fewer groups. A problem out of range
    keeps ``retry_share`` of its turns, so that it may come back. A range from 0 to 1 leaves no
    problem out. Raises ``FieldError`` for impossible values.
    """

    min_accuracy: Share = 0.0
    max_accuracy: Share = 1.0
    groups: Count = 2
    retry_share: Share = 0.0

    def __post_init__(self) -> None:
        if self.min_accuracy >= self.max_accuracy:
            raise FieldError(
                f"min_accuracy={self.min_accuracy} must be below max_accuracy={self.max_accuracy}"
            )

    @property
    def active(self) -> bool:
        """Whether any problem can be out of range."""
        return self.min_accuracy > 0 or self.max_accuracy < 1

    def off(self, seen: Collection[tuple[int, int]]) -> float:
        """Return how far an accuracy lies above the range, or below it (negative).

        It is 0 within the range, and with too few groups.

        Args:
            seen: (correct rollouts, rollouts) of each group.
        """
        if len(seen) < self.groups:
            return 0.0
        accuracy = sum(correct for correct, _ in seen) / sum(size for _, size in seen)
        return min(0.0, accuracy - self.min_accuracy) + max(0.0, accuracy - self.max_accuracy)


class ProblemOrder:
    """The problems of each iteration, as indices of the training problems; the same on every rank.

    Each pass over the problems is a permutation, a function of the seed. Without a difficulty
    filter the iterations are consecutive pieces of it. With a filter an iteration walks along it
    and skips problems that are out of range or that it has already. Where the rest of this pass and
    one full pass have too few problems, the iteration also takes those nearest to the range.

    Attributes:
        note: a line that says so about the last iteration, else empty.
        readmitted: the number of problems of the last iteration that are out of range.

    Args:
        ids: of the training problems; a problem that is listed several times is one problem.
        seed: of the permutations.
        difficulty: the filter; ``None``: no filter.
    """

    def __init__(self, ids: Sequence[str], seed: int, difficulty: Difficulty | None = None):
        self.ids, self.seed, self.difficulty = ids, seed, difficulty or Difficulty()
        self.note, self.readmitted = "", 0
        # First index of each id.
        self._index: dict[str, int] = {}
        # For each index, the first index of the same problem.
        self._first_index = [self._index.setdefault(name, i) for i, name in enumerate(ids)]
        # By first index: (correct rollouts, rollouts) of the last groups.
        self._seen: dict[int, deque[tuple[int, int]]] = {}
        # Where the next iteration begins, counted over all passes.
        self._position: int | None = None
        # Number and problems of the last iteration.
        self._served: tuple[int, list[int]] = (-1, [])
        # Number of the current pass, its permutation, and the turns that serve any problem.
        self._pass: tuple[int, list[int], list[bool]] = (-1, [], [])

    def iteration(self, count: int, size: int) -> list[int]:
        """Return the ``size`` problems of iteration number ``count``.

        ``size`` is the same in all iterations. With a filter, call it for one iteration after the
        other.
        """
        if not self.difficulty.active:
            return [self._turn(position)[0] for position in range(count * size, (count + 1) * size)]
        if self._served[0] != count:
            start = count * size if self._position is None else self._position
            self._served = (count, self._walk(start, size))
        return self._served[1]

    def spare(self, numbers: Iterable[int]) -> list[int]:
        """Draw a problem for each of the numbers: from those in range, if any, else from all."""
        pool: Sequence[int] = range(len(self.ids))
        if self.difficulty.active:
            pool = [i for i in pool if not self._off(i)] or pool
        problems: list[int] = []
        for i in numbers:
            generator = torch.Generator().manual_seed(self.seed * 1_000_003 + 500_009 + i)
            problems.append(pool[int(torch.randint(len(pool), (1,), generator=generator))])
        return problems

    def observe(self, groups: Sequence[RolloutGroup]) -> None:
        """Remember how many rollouts of each group are correct.

        Collective: every rank calls it, each with its groups.
        """
        if not self.difficulty.active:
            return
        local: list[list[int]] = []
        for group in groups:
            correct = sum(verdict.kind is Kind.CORRECT for verdict in group.verdicts)
            index = self._index[group.prompt.problem.id]
            local.append([index, correct, len(group.verdicts)])
        rows, _ = gather_rows(torch.tensor(local, dtype=torch.float64).reshape(-1, 3))
        # Sorted: the result does not depend on which rank had a group.
        for index, correct, size in sorted(rows.long().tolist()):
            seen = self._seen.setdefault(index, deque(maxlen=self.difficulty.groups))
            seen.append((correct, size))

    def out_of_range(self) -> tuple[int, int, int]:
        """Return how many training problems are too easy, how many too hard, and how many exist."""
        off = [self._off(i) for i in self._seen]
        return sum(x > 0 for x in off), sum(x < 0 for x in off), len(self._index)

    def state_dict(self) -> dict[str, Any]:
        """Return the state with which a resumed run goes on in the same order.

        It is empty without a filter.
        """
        if not self.difficulty.active:
            return {}
        return {
            "position": self._position,
            "seen": {self.ids[i]: [list(pair) for pair in seen] for i, seen in self._seen.items()},
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from ``state``; problems that no longer exist are forgotten."""
        self._position, self._served = state.get("position"), (-1, [])
        self._seen = {}
        for name, seen in state.get("seen", {}).items():
            if name in self._index:
                pairs = [(correct, size) for correct, size in seen]
                self._seen[self._index[name]] = deque(pairs, maxlen=self.difficulty.groups)

    def _off(self, index: int) -> float:
        return self.difficulty.off(self._seen.get(self._first_index[index], ()))

    def _turn(self, position: int) -> tuple[int, bool]:
        """Return the problem at a position, and whether it is served there even if out of range."""
        sweep, offset = divmod(position, len(self.ids))
        if self._pass[0] != sweep:
            generator = torch.Generator().manual_seed(self.seed * 1_000_003 + sweep)
            order = torch.randperm(len(self.ids), generator=generator).tolist()
            draws = torch.rand(len(self.ids), generator=generator)
            self._pass = (sweep, order, (draws < self.difficulty.retry_share).tolist())
        return self._pass[1][offset], self._pass[2][offset]

    def _walk(self, start: int, size: int) -> list[int]:
        """Choose the next ``size`` problems from a position on, in the order of their positions.

        Problems out of the difficulty range are skipped unless their retry is due; if too few
        remain, those nearest to the range are served too. Sets ``_position``, ``note`` and
        ``readmitted`` (problems served out of range).
        """
        count = len(self.ids)
        # The most often that one iteration serves a problem: above 1 only if it asks for more
        # prompts than there are problems.
        repeats = -(-size // count)
        end = (start // count + 1 + repeats) * count
        times: Counter[int] = Counter()
        taken: list[tuple[int, int]] = []
        skipped: list[tuple[float, int, int]] = []
        position = start
        while len(taken) < size and position < end:
            index, retry = self._turn(position)
            off = abs(self._off(index))
            if off and not retry:
                skipped.append((off, position, index))
            elif times[index] < repeats:
                times[index] += 1
                taken.append((position, index))
            position += 1
        self.note = ""
        if len(taken) < size:
            self.note = (
                f"data.difficulty leaves too few problems, {len(taken)} for the {size} prompts of "
                "an iteration: those nearest to the range are served all the same"
            )
            for _, place, index in sorted(skipped):
                if times[index] < repeats and len(taken) < size:
                    times[index] += 1
                    taken.append((place, index))
        self._position = position
        served = [index for _, index in sorted(taken)]
        self.readmitted = sum(self._off(index) != 0 for index in served)
        return served
