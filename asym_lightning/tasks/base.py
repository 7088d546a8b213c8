"""The interface of a task."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Protocol, runtime_checkable

from pydantic import Field
from transformers import PreTrainedTokenizerBase

from asym_lightning.runtime.characters import clean_text
from asym_lightning.tasks.prompts import opening
from asym_lightning.types import ConfigError, Problem, Prompt
from asym_lightning.verify.base import Verifier


@runtime_checkable
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


# A task as an argument of another part.
TaskPart = Annotated[
    Task,
    Field(
        description="a task (conf/task), which has name, train, heldout, notes, verifier() "
        "and encode()"
    ),
]


def encode(
    task: Task, problems: Sequence[Problem], tokenizer: PreTrainedTokenizerBase
) -> list[Prompt]:
    """Return the prompts of problems of a task.

    Raises:
        ConfigError: the text of a problem is not made of characters.
    """
    prompts = []
    for problem in problems:
        try:
            problem.text.encode()
        except UnicodeEncodeError:
            raise ConfigError(
                f"task {task.name}: the text of problem {clean_text(problem.id)} holds half of a "
                "surrogate pair, which is no character"
            ) from None
        token_ids = tuple(task.encode(problem, tokenizer))
        prompts.append(Prompt(problem, token_ids, opening(token_ids, tokenizer)))
    return prompts


@dataclass(frozen=True)
class PromptSet:
    """Prompts to evaluate on.

    ``name`` is their name in metrics; ``task`` verifies their answers.
    """

    name: str
    task: Task
    prompts: Sequence[Prompt]
