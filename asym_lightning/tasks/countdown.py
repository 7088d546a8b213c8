"""Countdown tasks, and pairs countdown: reach a target by one operation on two of four digits.

Procedural; a problem may have several correct answers.
"""

import hashlib
import random
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from functools import cache
from itertools import permutations
from typing import Annotated

from pydantic import Field
from transformers import PreTrainedTokenizerBase

from asym_lightning.checks import Count, WholeNumber, validated
from asym_lightning.types import FieldError, Problem
from asym_lightning.verify.countdown import CountdownVerifier, apply, canonical

# The warm start keeps the first tenth of the hashes out.
HeldoutShare = Annotated[
    float,
    Field(
        gt=0,
        le=0.1,
        description="above 0 and at most 0.1: the warm-started policy has seen the rest",
    ),
]


@cache
def _equations(digits: str) -> tuple[tuple[str, int], ...]:
    """Return all ``(equation, result)`` on two of the digits: canonical, sorted, no repeats."""
    results: dict[str, int] = {}
    for x, y in permutations(map(int, sorted(digits)), 2):
        for op in "+-*/":
            value = apply(x, op, y)
            if value is not None:
                results[canonical(x, op, y, result=int(value))] = int(value)
    return tuple(sorted(results.items()))


def _parts(problem: Problem) -> tuple[str, int]:
    """Return the numbers and the target of a problem."""
    numbers, _, target = problem.answer.partition(">")
    return numbers, int(target)


@validated
class Countdown(ABC):
    """Base class of tasks with numbers and a target.

    The target is the result of a random valid answer, so every problem is solvable.

    A problem is held out by a hash of (sorted numbers, target): the share ``heldout_share`` of all
    problems, never in ``train`` and never demonstrated. The hash ignores ``seed``, so that a policy
    warm-started with one seed may be trained with another. ``train`` and ``heldout`` are
    ``train_size`` and ``heldout_size`` draws, no prompt twice. Raises ``FieldError`` for an
    impossible share or size.
    """

    name: str
    notes: Sequence[str] = ()

    def __init__(
        self,
        heldout_share: HeldoutShare = 0.1,
        seed: WholeNumber = 0,
        train_size: Count = 16384,
        heldout_size: Count = 256,
    ) -> None:
        for field, size, share in (
            ("train_size", train_size, 1 - heldout_share),
            ("heldout_size", heldout_size, heldout_share),
        ):
            # There are more than 40,000 problems; near the end draws would not find a new one.
            if size > 20000 * share:
                raise FieldError(
                    f"{field}={size}: must be between 1 and {int(20000 * share)} "
                    f"with heldout_share={heldout_share}"
                )
        self.heldout_share = heldout_share
        self.train: Sequence[Problem] = self._draw_many(
            random.Random(f"train {seed}"), train_size, heldout=False
        )
        self.heldout: Sequence[Problem] = self._draw_many(
            random.Random(f"heldout {seed}"), heldout_size, heldout=True
        )

    @staticmethod
    @abstractmethod
    def draw_numbers(rng: random.Random) -> str:
        """Draw the numbers of a problem, in the form that its prompt has."""

    @staticmethod
    @abstractmethod
    def valid_answers(numbers: str) -> tuple[tuple[str, int], ...]:
        """Return all ``(answer, result)`` with these numbers, in a fixed order, without repeats.

        Answers have the canonical form.
        """

    @staticmethod
    @abstractmethod
    def ordered(numbers: str) -> str:
        """Return the same numbers in the order that the hash uses."""

    def encode(self, problem: Problem, tokenizer: PreTrainedTokenizerBase) -> list[int]:
        """Return the token ids of the prompt, e.g. of ``7715>7:``, without special tokens."""
        return list(tokenizer.encode(problem.text, add_special_tokens=False))

    def is_heldout(self, numbers: str, target: int) -> bool:
        """Return whether these numbers, in any order, with this target are held out."""
        digest = hashlib.sha256(f"{self.ordered(numbers)}>{target}".encode()).digest()
        return int.from_bytes(digest[:8], "big") < self.heldout_share * 2**64

    @classmethod
    def solutions(cls, problem: Problem) -> list[str]:
        """Return all correct answers in canonical form, sorted; there is at least one."""
        numbers, target = _parts(problem)
        return [answer for answer, result in cls.valid_answers(numbers) if result == target]

    def demonstrations(self, rng: random.Random, noise: float = 0.6) -> Iterator[tuple[str, str]]:
        """Yield endless ``(prompt, completion)`` texts for a supervised warm start.

        Completions have no end token. The share ``noise`` of them is a random valid answer with the
        same numbers, whatever its result, instead of a correct one: the policy learns the form, but
        keeps something to learn and entropy to lose.
        """
        while True:
            problem = self._draw(rng, heldout=False)
            if rng.random() < noise:
                numbers, _ = _parts(problem)
                completion = rng.choice(self.valid_answers(numbers))[0]
            else:
                completion = rng.choice(self.solutions(problem))
            yield problem.text, completion

    def _draw(self, rng: random.Random, heldout: bool) -> Problem:
        while True:
            numbers = self.draw_numbers(rng)
            target = rng.choice(self.valid_answers(numbers))[1]
            if self.is_heldout(numbers, target) == heldout:
                name = f"{numbers}>{target}"
                return Problem(id=name, text=f"{name}:", answer=name)

    def _draw_many(self, rng: random.Random, size: int, heldout: bool) -> list[Problem]:
        problems: dict[str, Problem] = {}
        while len(problems) < size:
            problem = self._draw(rng, heldout)
            problems.setdefault(problem.id, problem)
        return list(problems.values())


class PairsCountdown(Countdown):
    """Four digits, drawn uniformly from 1-9 and in any order.

    An answer is one operation on two of them. There are 5,119 problems; each has as many prompts as
    its digits have orders.
    """

    name = "countdown"

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
