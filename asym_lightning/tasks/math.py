"""Problems from a local file or a data set on the hub; mathematics answered in a ``\\boxed{}`` unless another verifier is named."""

from collections.abc import Sequence

from transformers import PreTrainedTokenizerBase

from asym_lightning.tasks.columns import Columns
from asym_lightning.tasks.prompts import INSTRUCTION, PromptFormat
from asym_lightning.tasks.rows import read_rows
from asym_lightning.types import ConfigError, Problem
from asym_lightning.verify.base import Verifier
from asym_lightning.verify.math import MathVerifier


class MathTask:
    """Rows of ``path`` (a local Parquet, JSONL or CSV file, or a hub id with ``subset`` and ``split``) as problems, and of
    ``heldout_path`` as held-out ones.

    What the columns mean is in ``Columns``, how a prompt is made in ``PromptFormat``. ``limit`` takes the first rows of ``path`` only.
    A row whose answer is empty is left out, which ``notes`` says. Raises ``ConfigError`` for data that cannot be used, naming file, row
    and column.
    """

    name = "math"

    def __init__(
        self,
        path: str | None,
        split: str = "train",
        subset: str | None = None,
        heldout_path: str | None = None,
        heldout_split: str = "test",
        problem_column: str | Sequence[str] = "problem",
        answer_column: str | Sequence[str] = "answer",
        solution_column: str | Sequence[str] = "solution",
        answer_after: str | None = None,
        instruction: str = INSTRUCTION,
        system: str | None = None,
        chat_template: bool = True,
        enable_thinking: bool = False,
        plain_template: str = "{prompt}\n",
        limit: int | None = None,
        verify: Verifier | None = None,
    ) -> None:
        if not path:
            raise ConfigError("task.path is not set: give a local .parquet, .jsonl or .csv file or the id of a hub data set (owner/name)")
        if limit is not None and limit < 1:
            raise ConfigError(f"task.limit={limit} must be at least 1, or null for all rows")
        self.format = PromptFormat(instruction, system, chat_template, enable_thinking, plain_template)
        self.columns = Columns(problem_column, answer_column, solution_column, answer_after)
        self._verifier = verify if verify is not None else MathVerifier()
        self.notes: tuple[str, ...] = ()
        self.train: Sequence[Problem] = self._read(path, split, subset, limit, "task.path")
        self.heldout: Sequence[Problem] = []
        if heldout_path:
            self.heldout = self._read(heldout_path, heldout_split, subset, None, "task.heldout_path")

    def verifier(self) -> Verifier:
        return self._verifier

    def encode(self, problem: Problem, tokenizer: PreTrainedTokenizerBase) -> list[int]:
        """Token ids of the prompt, template included."""
        return self.format.encode(problem, tokenizer)

    def _read(self, path: str, split: str, subset: str | None, limit: int | None, key: str) -> list[Problem]:
        problems, note = self.columns.problems(path, read_rows(path, split, limit, key, subset))
        self.notes += (note,) if note else ()
        return problems
