"""The way from rows to problems: roles of the columns, and forms of answers in data sets."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field

from asym_lightning.checks import validated
from asym_lightning.types import FieldError, Problem
from asym_lightning.verify.math import last_boxed

ColumnNames = Annotated[
    str | Annotated[list[str], Field(min_length=1)],
    Field(description="the name of a column, or a list of names"),
]


class _NoAnswer(FieldError):
    """A row that has the columns of the answer, but no answer in them."""


@validated
@dataclass(frozen=True)
class Columns:
    """Names of the columns that make a problem.

    A dot leads into a nested column (``reward_model.ground_truth``). Of several names, the first
    that a row has counts.

    ``problem_column`` holds a text, or a chat as a list of ``{role, content}``. The reference is
    the text of ``answer_column`` where a row has one, else the last ``\\boxed{}`` of
    ``solution_column``. With ``answer_after`` it is the text after the last such mark in the answer
    (``####`` in GSM8K).
    """

    problem_column: ColumnNames = "problem"
    answer_column: ColumnNames = "answer"
    solution_column: ColumnNames = "solution"
    answer_after: str | None = None

    def problems(
        self, path: str, rows: Sequence[Mapping[str, Any]]
    ) -> tuple[list[Problem], str | None]:
        """Return the rows as problems, and a note on the rows left out because of a missing answer.

        Raises ``FieldError`` for a row without the columns, and when no row has an answer.
        """
        problems: list[Problem] = []
        empty: list[tuple[int, _NoAnswer]] = []
        for number, row in enumerate(rows, start=1):
            where, identifier = f"row {number} of {path}", f"{Path(path).stem}/{number}"
            try:
                problems.append(self._problem(where, identifier, row))
            except _NoAnswer as error:
                empty.append((number, error))
        if not problems:
            raise empty[0][1]
        if not empty:
            return problems, None
        listed = ", ".join(str(number) for number, _ in empty[:5])
        more = ", ..." if len(empty) > 5 else ""
        note = (
            f"{path}: {len(empty)} of {len(rows)} rows have no answer and are left out "
            f"(row {listed}{more})"
        )
        return problems, note

    def _problem(self, where: str, identifier: str, row: Mapping[str, Any]) -> Problem:
        cell = _cell(row, self.problem_column)[0]
        place = f"problem_column={self.problem_column}: {where}"
        is_chat = isinstance(cell, list) and cell and isinstance(cell[0], Mapping)
        chat = _chat(place, cell) if is_chat else ()
        text = "\n\n".join(content for _, content in chat) if chat else _text(cell)
        if text is None:
            raise FieldError(
                f"{place} has no {_quoted(self.problem_column)}; its columns: {_listed(row)}"
            )
        return Problem(id=identifier, text=text, answer=self._answer(where, row), chat=chat)

    def _answer(self, where: str, row: Mapping[str, Any]) -> str:
        """Return the reference answer of a row.

        Raises ``_NoAnswer`` where its cells are empty, ``FieldError`` where it lacks the columns.
        """
        cell, has_answer = _cell(row, self.answer_column)
        # Several answers, or a single answer in a list.
        if isinstance(cell, list | tuple):
            cell = ", ".join(_without_dollars(str(part).strip()) for part in cell)
        answer = _text(cell)
        if answer is not None:
            if self.answer_after:
                answer = _after(where, answer, self.answer_after)
            return _without_dollars(answer)
        cell, has_solution = _cell(row, self.solution_column)
        solution = _text(cell)
        place = f"answer_column={self.answer_column}: {where}"
        if solution is None:
            raise (_NoAnswer if has_answer or has_solution else FieldError)(
                f"{place} has no {_quoted(self.answer_column)} and no "
                f"{_quoted(self.solution_column)} (solution_column) to take it from; "
                f"its columns: {_listed(row)}"
            )
        boxed = last_boxed(solution)[0]
        if not boxed:
            raise _NoAnswer(
                f"{place} has no answer: no {_quoted(self.answer_column)}, "
                f"and no closed \\boxed{{}} in {_quoted(self.solution_column)}"
            )
        return _without_dollars(boxed)


def _cell(row: Mapping[str, Any], names: str | list[str]) -> tuple[Any, bool]:
    """Return the value of the first of the columns that the row has, and whether it has any."""
    for name in [names] if isinstance(names, str) else names:
        if name in row:
            return row[name], True
        value: Any = row
        for part in name.split("."):
            value = value.get(part) if isinstance(value, Mapping) else None
        if value is not None:
            return value, True
    return None, False


def _chat(place: str, messages: Sequence[Mapping[str, Any]]) -> tuple[tuple[str, str], ...]:
    """Return the turns (role, content) of a chat. Raises ``FieldError`` for unusable roles."""
    chat = tuple((str(m.get("role", "")), str(m.get("content", ""))) for m in messages)
    known = all(role in ("system", "user", "assistant") for role, _ in chat)
    if chat[-1][0] != "user" or not known:
        roles = ", ".join(role for role, _ in chat)
        raise FieldError(
            f"{place} has a chat of the roles {roles}; they must be system, user or assistant, "
            "and the last one user"
        )
    return chat


def _text(value: Any) -> str | None:
    """Return a cell as text, ``None`` where it is empty."""
    text = "" if value is None else str(value).strip()
    return text or None


def _without_dollars(text: str) -> str:
    """Return ``x`` for ``$x$``."""
    enclosed = len(text) > 1 and text[0] == text[-1] == "$" and "$" not in text[1:-1]
    return text[1:-1].strip() if enclosed else text


def _after(where: str, answer: str, mark: str) -> str:
    """Return the text after the last ``mark``. Raises ``_NoAnswer`` where it is empty."""
    _, separator, last = answer.rpartition(mark)
    if not separator or not last.strip():
        raise _NoAnswer(f"answer_after={mark!r}: {where} has no answer: no text follows it")
    return last.strip()


def _listed(row: Mapping[str, Any]) -> str:
    return ", ".join(str(name) for name in row)


def _quoted(names: str | list[str]) -> str:
    return repr(names) if isinstance(names, str) else " or ".join(map(repr, names))
