"""What a task is."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from transformers import PreTrainedTokenizerBase

from asym_lightning.types import Problem
from asym_lightning.verify.base import Verifier


class Task(Protocol):
    """Where problems come from and how their answers are verified. ``heldout`` may be empty; it shares nothing with ``train``.
    ``notes`` are lines that a user of the data should see, such as rows that were left out."""

    name: str
    train: Sequence[Problem]
    heldout: Sequence[Problem]
    notes: Sequence[str]

    def verifier(self) -> Verifier:
        """The verifier of this task's answers; whoever asks for it closes it."""
        ...

    def encode(self, problem: Problem, tokenizer: PreTrainedTokenizerBase) -> list[int]:
        """Token ids of the prompt, template included."""
        ...


@dataclass(frozen=True)
class ProblemSet:
    """Problems to evaluate on, under the name they have in metrics, with the task that makes their prompts and verifies them."""

    name: str
    task: Task
    problems: Sequence[Problem]
