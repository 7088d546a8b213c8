"""A task that a policy of random weights solves half of the time, so that a short run has every kind of group."""

import os
import signal
from collections.abc import Sequence
from dataclasses import replace

from asym_lightning.types import Kind, Problem, Verdict


class Parity:
    """Right is a completion whose bytes sum to an even number, cut off or not."""

    name = "parity"
    notes: Sequence[str] = ()

    def __init__(self) -> None:
        problems = [Problem(id=str(i), text=f"{i}:", answer="even") for i in range(64)]
        self.train, self.heldout = problems[:48], problems[48:]

    def verifier(self) -> "Parity":
        return self

    def encode(self, problem: Problem, tokenizer: object) -> list[int]:
        return list(tokenizer.encode(problem.text, add_special_tokens=False))  # type: ignore[attr-defined]

    def score(self, completions: Sequence[str], answers: Sequence[str], truncated: Sequence[bool]) -> list[Verdict]:
        right = [sum(text.encode()) % 2 == 0 for text in completions]
        return [Verdict(float(r), Kind.CORRECT if r else Kind.WRONG, text) for r, text in zip(right, completions, strict=True)]

    def close(self) -> None:
        pass


class Graded(Parity):
    """A wrong completion gets something, too."""

    def score(self, completions: Sequence[str], answers: Sequence[str], truncated: Sequence[bool]) -> list[Verdict]:
        return [replace(verdict, reward=max(verdict.reward, 0.1)) for verdict in super().score(completions, answers, truncated)]


class Interrupting(Parity):
    """Interrupts its process, as Ctrl-C does, while it scores for the time that the environment variable INTERRUPT_AT says."""

    def __init__(self) -> None:
        super().__init__()
        self.times = 0

    def score(self, completions: Sequence[str], answers: Sequence[str], truncated: Sequence[bool]) -> list[Verdict]:
        self.times += 1
        if os.environ.get("INTERRUPT_AT") == str(self.times):
            os.kill(os.getpid(), signal.SIGINT)
        return super().score(completions, answers, truncated)
