"""A task that a random policy solves half of the time: a short run has groups of every kind."""

import os
import signal
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from asym_lightning.types import Kind, Problem, Verdict


class Parity:
    """A completion is correct if its bytes sum to an even number, truncated or not."""

    name = "parity"
    notes: Sequence[str] = ()

    def __init__(self) -> None:
        problems = [Problem(id=str(i), text=f"{i}:", answer="even") for i in range(64)]
        self.train, self.heldout = problems[:48], problems[48:]

    def verifier(self) -> "Parity":
        return self

    def encode(self, problem: Problem, tokenizer: Any) -> list[int]:
        return list(tokenizer.encode(problem.text, add_special_tokens=False))

    def score(
        self, completions: Sequence[str], answers: Sequence[str], truncated: Sequence[bool]
    ) -> list[Verdict]:
        correct = [sum(text.encode()) % 2 == 0 for text in completions]
        return [
            Verdict(float(is_even), Kind.CORRECT if is_even else Kind.WRONG, text)
            for is_even, text in zip(correct, completions, strict=True)
        ]

    def close(self) -> None:
        pass


class Graded(Parity):
    """The same task with a reward of 0.1 for a wrong completion."""

    def score(
        self, completions: Sequence[str], answers: Sequence[str], truncated: Sequence[bool]
    ) -> list[Verdict]:
        verdicts = super().score(completions, answers, truncated)
        return [replace(verdict, reward=max(verdict.reward, 0.1)) for verdict in verdicts]


class Interrupting(Parity):
    """The same task; call number INTERRUPT_AT of ``score`` interrupts the process as Ctrl-C does.

    INTERRUPT_AT is an environment variable.
    """

    def __init__(self) -> None:
        super().__init__()
        self.times = 0

    def score(
        self, completions: Sequence[str], answers: Sequence[str], truncated: Sequence[bool]
    ) -> list[Verdict]:
        self.times += 1
        if os.environ.get("INTERRUPT_AT") == str(self.times):
            os.kill(os.getpid(), signal.SIGINT)
        return super().score(completions, answers, truncated)
