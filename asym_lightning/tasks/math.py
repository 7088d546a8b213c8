"""Problems from a local file or from a data set on the hub.

Their answers are mathematics in a ``\\boxed{}`` unless the task names another verifier.
"""

from collections.abc import Sequence
from typing import Annotated

from pydantic import Field
from transformers import PreTrainedTokenizerBase

from asym_lightning.checks import Count, validated
from asym_lightning.tasks.columns import ColumnNames, Columns
from asym_lightning.tasks.prompts import INSTRUCTION, PromptFormat
from asym_lightning.tasks.rows import read_rows
from asym_lightning.types import Problem
from asym_lightning.verify.base import Verifier, VerifierPart
from asym_lightning.verify.math import MathVerifier

FilePath = Annotated[
    str,
    Field(
        min_length=1,
        description="a local .parquet, .jsonl or .csv file or the id of a hub data set "
        "(owner/name)",
    ),
]


@validated
class MathTask:
    """Rows of ``path`` as training problems, and rows of ``heldout_path`` as held-out ones.

    A row without a problem or an answer is left out; ``notes`` tells the user which ones were.

    Args:
        path: a local Parquet, JSONL or CSV file, or a hub id.
        split: of a hub id, as ``subset``, which holds for both paths.
        heldout_path: the same for held-out problems; none unless given.
        problem_column: ``Columns`` explains it, the other columns and ``answer_after``.
        instruction: ``PromptFormat`` explains it, ``system``, and the templates.
        limit: take the first rows of ``path`` only; held-out problems are never cut.
        verify: the verifier of completions; ``MathVerifier`` unless given.

    Raises:
        FieldError: the data cannot be used; the message names file, row and column.
    """

    name = "math"

    def __init__(
        self,
        path: FilePath,
        split: str = "train",
        subset: str | None = None,
        heldout_path: str | None = None,
        heldout_split: str = "test",
        problem_column: ColumnNames = "problem",
        answer_column: ColumnNames = "answer",
        solution_column: ColumnNames = "solution",
        answer_after: str | None = None,
        instruction: str = INSTRUCTION,
        system: str | None = None,
        chat_template: bool = True,
        enable_thinking: bool = False,
        plain_template: str = "{prompt}\n",
        limit: Count | None = None,
        verify: VerifierPart | None = None,
    ) -> None:
        self.format = PromptFormat(
            instruction=instruction,
            system=system,
            chat_template=chat_template,
            enable_thinking=enable_thinking,
            plain_template=plain_template,
        )
        self.columns = Columns(
            problem_column=problem_column,
            answer_column=answer_column,
            solution_column=solution_column,
            answer_after=answer_after,
        )
        self._verifier = verify if verify is not None else MathVerifier()
        self._subset = subset
        self.notes: tuple[str, ...] = ()
        self.train: Sequence[Problem] = self._read("path", path, split, limit=limit)
        self.heldout: Sequence[Problem] = []
        if heldout_path:
            self.heldout = self._read("heldout_path", heldout_path, heldout_split)

    def verifier(self) -> Verifier:
        return self._verifier

    def encode(self, problem: Problem, tokenizer: PreTrainedTokenizerBase) -> list[int]:
        """Return the token ids of the prompt, template included."""
        return self.format.encode(problem, tokenizer)

    def _read(self, field: str, path: str, split: str, limit: int | None = None) -> list[Problem]:
        """Return the problems of a file or data set, which the field ``field`` names."""
        rows = read_rows(path, split, limit, field=field, subset=self._subset)
        problems, notes = self.columns.problems(path, rows)
        self.notes += tuple(notes)
        return problems
