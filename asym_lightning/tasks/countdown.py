"""Pairs countdown: four digits and a target, one operation on two of the digits. Procedural, with several right answers."""

import hashlib
import random
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from functools import cache
from itertools import permutations

from transformers import PreTrainedTokenizerBase

from asym_lightning.checks import whole_number
from asym_lightning.types import ConfigError, Problem
from asym_lightning.verify.countdown import CountdownVerifier, apply, canonical


@cache
def _equations(digits: str) -> tuple[tuple[str, int], ...]:
    """All ``(equation, result)`` on two of the digits, in canonical form, in a fixed order, none twice."""
    found: dict[str, int] = {}
    for x, y in permutations(map(int, sorted(digits)), 2):
        for op in "+-*/":
            value = apply(x, op, y)
            if value is not None:
                found[canonical(x, op, y, int(value))] = int(value)
    return tuple(sorted(found.items()))


def _parts(problem: Problem) -> tuple[str, int]:
    numbers, _, target = problem.answer.partition(">")
    return numbers, int(target)


class Countdown(ABC):
    """Numbers and a target that is the result of a random valid answer, so every problem is solvable: what all such tasks share.

    A problem is held out by a hash of (sorted numbers, target): ``heldout_share`` of all problems, never in ``train`` and never
    demonstrated. The hash ignores ``seed``, so that a policy warm-started with one seed may be trained with another. ``train`` and
    ``heldout`` are ``train_size`` and ``heldout_size`` draws, no prompt twice.
    Raises ``ConfigError`` for a share or a size that cannot be had.
    """

    name: str
    policy: str  # the warm-started policy that has seen the rest
    notes: Sequence[str] = ()

    def __init__(self, heldout_share: float = 0.1, seed: int = 0, train_size: int = 16384, heldout_size: int = 256) -> None:
        whole_number("task.seed", seed, 0)
        if not 0 < heldout_share <= 0.1:  # the warm start keeps the first tenth of the hashes out
            raise ConfigError(
                f"task.heldout_share={heldout_share} must be above 0 and at most 0.1: the {self.policy} policy has seen the rest"
            )
        for key, size, share in (("train_size", train_size, 1 - heldout_share), ("heldout_size", heldout_size, heldout_share)):
            if not 0 < size <= 20000 * share:  # there are more than 40,000 problems; near the end draws would not find a new one
                raise ConfigError(f"task.{key}={size} must be between 1 and {int(20000 * share)} with heldout_share={heldout_share}")
        self.heldout_share = heldout_share
        self.train: Sequence[Problem] = self._draw_many(random.Random(f"train {seed}"), train_size, heldout=False)
        self.heldout: Sequence[Problem] = self._draw_many(random.Random(f"heldout {seed}"), heldout_size, heldout=True)

    @staticmethod
    @abstractmethod
    def draw_numbers(rng: random.Random) -> str:
        """The numbers of a problem as they stand in its prompt."""

    @staticmethod
    @abstractmethod
    def valid_answers(numbers: str) -> tuple[tuple[str, int], ...]:
        """All ``(answer, result)`` with these numbers, answers in canonical form, in a fixed order, none twice."""

    @staticmethod
    @abstractmethod
    def ordered(numbers: str) -> str:
        """The same numbers in the order that the hash sees."""

    def encode(self, problem: Problem, tokenizer: PreTrainedTokenizerBase) -> list[int]:
        """Token ids of the prompt, e.g. of ``7715>7:``; no special tokens."""
        return list(tokenizer.encode(problem.text, add_special_tokens=False))

    def is_heldout(self, numbers: str, target: int) -> bool:
        """Whether these numbers, in any order, with this target are kept from training."""
        digest = hashlib.sha256(f"{self.ordered(numbers)}>{target}".encode()).digest()
        return int.from_bytes(digest[:8], "big") < self.heldout_share * 2**64

    @classmethod
    def solutions(cls, problem: Problem) -> list[str]:
        """All right answers in canonical form, sorted; at least one."""
        numbers, target = _parts(problem)
        return [answer for answer, result in cls.valid_answers(numbers) if result == target]

    def demonstrations(self, rng: random.Random, noise: float = 0.6) -> Iterator[tuple[str, str]]:
        """Endless ``(prompt, completion)`` texts for a supervised warm start, without end token.

        The share ``noise`` of the completions is a random valid answer with the same numbers, whatever it results in, instead of a
        right one, so that the policy learns the form but keeps something to learn and entropy to lose.
        """
        while True:
            problem = self._draw(rng, heldout=False)
            noisy = rng.random() < noise
            yield problem.text, rng.choice(self.valid_answers(_parts(problem)[0]))[0] if noisy else rng.choice(self.solutions(problem))

    def _draw(self, rng: random.Random, heldout: bool) -> Problem:
        while True:
            numbers = self.draw_numbers(rng)
            target = rng.choice(self.valid_answers(numbers))[1]
            if self.is_heldout(numbers, target) == heldout:
                return Problem(id=f"{numbers}>{target}", text=f"{numbers}>{target}:", answer=f"{numbers}>{target}")

    def _draw_many(self, rng: random.Random, size: int, heldout: bool) -> list[Problem]:
        problems: dict[str, Problem] = {}
        while len(problems) < size:
            problem = self._draw(rng, heldout)
            problems.setdefault(problem.id, problem)
        return list(problems.values())


class PairsCountdown(Countdown):
    """Four digits, drawn uniformly from 1-9 and in any order; an answer is one operation on two of them. 5,119 problems, as many prompts
    as there are orders of the digits."""

    name = "countdown"
    policy = "embedded"

    def verifier(self) -> CountdownVerifier:
        return CountdownVerifier()

    @staticmethod
    def draw_numbers(rng: random.Random) -> str:
        return "".join(rng.choices("123456789", k=4))

    @staticmethod
    def valid_answers(numbers: str) -> tuple[tuple[str, int], ...]:
        return _equations(PairsCountdown.ordered(numbers))

    @staticmethod
    def ordered(numbers: str) -> str:
        return "".join(sorted(numbers))
