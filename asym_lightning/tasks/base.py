"""The interface of a task."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from transformers import PreTrainedTokenizerBase

from asym_lightning.types import Problem
from asym_lightning.verify.base import Verifier


class Task(Protocol):
    """A source of problems, with the verification of their answers.

    ``heldout`` may be empty; it shares no problem with ``train``. ``notes`` are lines for the user
    of the data, such as the number of rows that were left out.
    """

    name: str
    train: Sequence[Problem]
    heldout: Sequence[Problem]
    notes: Sequence[str]

    def verifier(self) -> Verifier:
        """Return the verifier of this task's answers; the caller closes it."""
        ...

    def encode(self, problem: Problem, tokenizer: PreTrainedTokenizerBase) -> list[int]:
        """Return the token ids of the prompt, template included."""
        ...


@dataclass(frozen=True)
class ProblemSet:
    """Problems to evaluate on.

    ``name`` is their name in metrics; ``task`` makes their prompts and verifies their answers.
    """

    name: str
    task: Task
    problems: Sequence[Problem]
