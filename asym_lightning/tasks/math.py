"""MATH-style problems from a local file or the hub, answered in a ``\\boxed{}``."""

import csv
import json
from collections.abc import Iterable, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from transformers import PreTrainedTokenizerBase

from asym_lightning.types import ConfigError, Problem
from asym_lightning.verify.base import Verifier
from asym_lightning.verify.math import MathVerifier, last_boxed

INSTRUCTION = "Please reason step by step, and put your final answer within \\boxed{}."
SUFFIXES = (".parquet", ".jsonl", ".json", ".csv")


def read_rows(path: str, split: str, limit: int | None, key: str = "task.path") -> list[Mapping[str, Any]]:
    """Rows of a local Parquet, JSONL or CSV file, or of ``split`` of a hub data set; the first ``limit`` of them.

    Raises ``ConfigError``, which begins with ``key``, when there is no such file or data set, it cannot be read, or has no rows.
    """
    file = Path(path).expanduser()
    local = file.exists() or file.suffix.lower() in SUFFIXES or path.startswith(("/", ".", "~")) or path.count("/") > 1
    if local and not file.is_file():
        raise ConfigError(f"{key}={path} is no file: give a local {', '.join(SUFFIXES)} file or the id of a hub data set (owner/name)")
    if local and file.suffix.lower() not in SUFFIXES:
        raise ConfigError(f"{key}={path} is of no known format: give a {', '.join(SUFFIXES)} file")
    try:
        rows = list(islice(_local_rows(file) if local else _hub_rows(path, split), limit))
    except Exception as error:  # pyarrow, json, datasets and the network each have their own
        lines = str(error).strip().splitlines() or [""]
        raise ConfigError(f"{key}={path} cannot be read: {type(error).__name__}: {lines[0][:200]}") from error
    if not rows:
        raise ConfigError(f"{key}={path} has no rows")
    return rows


def _local_rows(file: Path) -> Iterable[Mapping[str, Any]]:
    # Read directly: the datasets library would copy the file into the user's cache.
    suffix = file.suffix.lower()
    if suffix == ".parquet":
        import pyarrow.parquet

        yield from pyarrow.parquet.read_table(file).to_pylist()
        return
    with file.open(encoding="utf-8-sig", newline="" if suffix == ".csv" else None) as stream:
        if suffix == ".csv":
            yield from csv.DictReader(stream)
            return
        for number, line in enumerate(stream):
            if line.strip():
                try:
                    row = json.loads(line)
                except ValueError:
                    row = None
                if not isinstance(row, dict):
                    raise ValueError(f"line {number + 1} is not a JSON object (one per line)")
                yield row


def _hub_rows(path: str, split: str) -> Iterable[Mapping[str, Any]]:
    import datasets

    return datasets.load_dataset(path, split=split)


def _text(value: Any) -> str | None:
    """A cell as text; a list (several values, or one in a list) joined by commas; ``None`` where it is empty."""
    if isinstance(value, list | tuple):
        value = ", ".join(map(str, value))
    text = "" if value is None else str(value).strip()
    return text or None


class _NoAnswer(ConfigError):
    """A row with the right columns and nothing in them."""


class MathTask:
    """Rows of ``path`` (a local Parquet, JSONL or CSV file, or a hub id with ``split``) as problems.

    The reference is the ``answer_column`` where a row has one, else the last ``\\boxed{}`` of the ``solution_column``. ``limit``
    takes the first rows of ``path`` only. The prompt is the problem, a new line and ``instruction``, in the tokenizer's chat
    template if it has one and ``chat_template`` is true. A row whose answer is empty is left out, which ``notes`` says. Raises
    ``ConfigError`` for data that cannot be used, naming file, row and column.
    """

    name = "math"

    def __init__(
        self,
        path: str | None,
        split: str = "train",
        heldout_path: str | None = None,
        heldout_split: str = "test",
        problem_column: str = "problem",
        answer_column: str = "answer",
        solution_column: str = "solution",
        instruction: str = INSTRUCTION,
        chat_template: bool = True,
        enable_thinking: bool = False,
        limit: int | None = None,
        verify: Verifier | None = None,
    ) -> None:
        if not path:
            raise ConfigError("task.path is not set: give a local .parquet, .jsonl or .csv file or the id of a hub data set (owner/name)")
        if limit is not None and limit < 1:
            raise ConfigError(f"task.limit={limit} must be at least 1, or null for all rows")
        self.problem_column, self.answer_column, self.solution_column = problem_column, answer_column, solution_column
        self.instruction, self.chat_template, self.enable_thinking = instruction, chat_template, enable_thinking
        self._verifier = verify if verify is not None else MathVerifier()
        self.notes: tuple[str, ...] = ()
        self.train: Sequence[Problem] = self._problems(path, read_rows(path, split, limit))
        self.heldout: Sequence[Problem] = []
        if heldout_path:
            self.heldout = self._problems(heldout_path, read_rows(heldout_path, heldout_split, None, "task.heldout_path"))

    def verifier(self) -> Verifier:
        return self._verifier

    def encode(self, problem: Problem, tokenizer: PreTrainedTokenizerBase) -> list[int]:
        """Token ids of problem and instruction; special tokens only where the chat template puts them."""
        text = f"{problem.text}\n{self.instruction}"
        if not (self.chat_template and tokenizer.chat_template):
            return list(tokenizer.encode(text + "\n", add_special_tokens=False))
        ids = tokenizer.apply_chat_template(
            [{"role": "user", "content": text}],
            add_generation_prompt=True,
            tokenize=True,
            return_dict=False,
            enable_thinking=self.enable_thinking,
        )
        return list(ids)  # type: ignore[arg-type]

    def _problems(self, path: str, rows: Sequence[Mapping[str, Any]]) -> list[Problem]:
        problems: list[Problem] = []
        empty: list[tuple[int, _NoAnswer]] = []
        for number, row in enumerate(rows, start=1):
            try:
                problems.append(self._problem(f"row {number} of {path}", f"{Path(path).stem}/{number}", row))
            except _NoAnswer as error:
                empty.append((number, error))
        if not problems:
            raise empty[0][1]
        if empty:
            named = ", ".join(str(number) for number, _ in empty[:5]) + (", ..." if len(empty) > 5 else "")
            self.notes += (f"{path}: {len(empty)} of {len(rows)} rows have no answer and are left out (row {named})",)
        return problems

    def _problem(self, where: str, identifier: str, row: Mapping[str, Any]) -> Problem:
        text = _text(row.get(self.problem_column))
        if text is None:
            raise ConfigError(f"{where} has no {self.problem_column!r} (task.problem_column); its columns: {_columns(row)}")
        answer = _text(row.get(self.answer_column))
        if answer is None:
            solution = _text(row.get(self.solution_column))
            if solution is None:
                known = self.answer_column in row or self.solution_column in row
                raise (_NoAnswer if known else ConfigError)(
                    f"{where} has no {self.answer_column!r} (task.answer_column) and no {self.solution_column!r} (task.solution_column) "
                    f"to take it from; its columns: {_columns(row)}"
                )
            answer = last_boxed(solution)[0]
            if not answer:
                raise _NoAnswer(f"{where} has no answer: no {self.answer_column!r}, and no closed \\boxed{{}} in {self.solution_column!r}")
        if len(answer) > 1 and answer[0] == answer[-1] == "$" and "$" not in answer[1:-1]:
            answer = answer[1:-1].strip()
        return Problem(id=identifier, text=text, answer=answer)


def _columns(row: Mapping[str, Any]) -> str:
    return ", ".join(str(name) for name in row)
