"""Chain countdown: reach a target from three of four numbers in two written steps.

Procedural; a problem may have several correct answers.
"""

import random
from functools import cache
from itertools import permutations

from asym_lightning.tasks.countdown import Countdown
from asym_lightning.verify.chain import LARGEST, ChainVerifier, Step, canonical_chain
from asym_lightning.verify.countdown import apply


@cache
def _chains(numbers: str) -> tuple[tuple[str, int], ...]:
    """Return all ``(chain, result)`` on three of the numbers: canonical, sorted, no repeats."""
    results: dict[str, int] = {}
    for x, y, z in permutations(map(int, numbers.split(",")), 3):
        for first in _steps(x, y):
            for second in (*_steps(first[3], z), *_steps(z, first[3])):
                results[canonical_chain(first, second)] = second[3]
    return tuple(sorted(results.items()))


def _steps(x: int, y: int) -> list[Step]:
    """Return the valid steps on two numbers, in this order."""
    steps: list[Step] = []
    for op in "+-*/":
        result = apply(x, op, y)
        if result is not None and result <= LARGEST:
            steps.append((x, op, y, int(result)))
    return steps


class ChainCountdown(Countdown):
    """Four numbers, drawn uniformly from 1-12 and sorted, the largest first.

    An answer is a chain of two steps on three of them, such as ``9-4=5,12*5=60`` for
    ``12,9,4,1>60:``. There are 41,263 problems; results go up to 99.
    """

    name = "chain"

    def verifier(self) -> ChainVerifier:
        return ChainVerifier()

    @staticmethod
    def draw_numbers(rng: random.Random) -> str:
        return ChainCountdown.ordered(",".join(map(str, rng.choices(range(1, 13), k=4))))

    @staticmethod
    def valid_answers(numbers: str) -> tuple[tuple[str, int], ...]:
        return _chains(ChainCountdown.ordered(numbers))

    @staticmethod
    def ordered(numbers: str) -> str:
        return ",".join(map(str, sorted(map(int, numbers.split(",")), reverse=True)))
