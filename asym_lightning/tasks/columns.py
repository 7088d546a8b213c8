"""From rows to problems: which columns hold what, and answers in the forms that data sets have."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from asym_lightning.types import ConfigError, Problem
from asym_lightning.verify.math import last_boxed


class _NoAnswer(ConfigError):
    """A row with the right columns and nothing in them."""


@dataclass(frozen=True)
class Columns:
    """Names of columns; a dot leads into a nested one (``reward_model.ground_truth``); of several names the first that a row has.

    ``problem`` holds a text, or a chat as a list of ``{role, content}``. The reference is ``answer`` where a row has one, else the last
    ``\\boxed{}`` of ``solution``. ``answer_after``: the reference is what follows the last such mark of the answer (``####`` in GSM8K).
    """

    problem: str | Sequence[str] = "problem"
    answer: str | Sequence[str] = "answer"
    solution: str | Sequence[str] = "solution"
    answer_after: str | None = None

    def problems(self, path: str, rows: Sequence[Mapping[str, Any]]) -> tuple[list[Problem], str | None]:
        """The rows as problems, and a note on those without an answer, which are left out.

        Raises ``ConfigError`` for a row without the columns, and when no row has an answer.
        """
        problems: list[Problem] = []
        empty: list[tuple[int, _NoAnswer]] = []
        for number, row in enumerate(rows, start=1):
            try:
                problems.append(self._problem(f"row {number} of {path}", f"{Path(path).stem}/{number}", row))
            except _NoAnswer as error:
                empty.append((number, error))
        if not problems:
            raise empty[0][1]
        if not empty:
            return problems, None
        named = ", ".join(str(number) for number, _ in empty[:5]) + (", ..." if len(empty) > 5 else "")
        return problems, f"{path}: {len(empty)} of {len(rows)} rows have no answer and are left out (row {named})"

    def _problem(self, where: str, identifier: str, row: Mapping[str, Any]) -> Problem:
        cell = _cell(row, self.problem)[0]
        chat = _chat(where, cell) if isinstance(cell, list) and cell and isinstance(cell[0], Mapping) else ()
        text = "\n\n".join(content for _, content in chat) if chat else _text(cell)
        if text is None:
            raise ConfigError(f"{where} has no {_quoted(self.problem)} (task.problem_column); its columns: {_named(row)}")
        return Problem(id=identifier, text=text, answer=self._answer(where, row), chat=chat)

    def _answer(self, where: str, row: Mapping[str, Any]) -> str:
        cell, known = _cell(row, self.answer)
        if isinstance(cell, list | tuple):  # several answers, or one in a list
            cell = ", ".join(_undollared(str(one).strip()) for one in cell)
        answer = _text(cell)
        if answer is not None:
            return _undollared(_after(where, answer, self.answer_after) if self.answer_after else answer)
        cell, also_known = _cell(row, self.solution)
        solution = _text(cell)
        if solution is None:
            raise (_NoAnswer if known or also_known else ConfigError)(
                f"{where} has no {_quoted(self.answer)} (task.answer_column) and no {_quoted(self.solution)} (task.solution_column) "
                f"to take it from; its columns: {_named(row)}"
            )
        boxed = last_boxed(solution)[0]
        if not boxed:
            raise _NoAnswer(f"{where} has no answer: no {_quoted(self.answer)}, and no closed \\boxed{{}} in {_quoted(self.solution)}")
        return _undollared(boxed)


def _cell(row: Mapping[str, Any], names: str | Sequence[str]) -> tuple[Any, bool]:
    """The value in the first of the columns that the row has, and whether it has one."""
    for name in [names] if isinstance(names, str) else names:
        if name in row:
            return row[name], True
        value: Any = row
        for part in name.split("."):
            value = value.get(part) if isinstance(value, Mapping) else None
        if value is not None:
            return value, True
    return None, False


def _chat(where: str, messages: Sequence[Mapping[str, Any]]) -> tuple[tuple[str, str], ...]:
    chat = tuple((str(m.get("role", "")), str(m.get("content", ""))) for m in messages)
    if chat[-1][0] != "user" or not all(role in ("system", "user", "assistant") for role, _ in chat):
        roles = ", ".join(role for role, _ in chat)
        raise ConfigError(f"{where} has a chat of the roles {roles}; they must be system, user or assistant, and the last one user")
    return chat


def _text(value: Any) -> str | None:
    """A cell as text; ``None`` where it is empty."""
    text = "" if value is None else str(value).strip()
    return text or None


def _undollared(text: str) -> str:
    """``x`` for ``$x$``."""
    whole = len(text) > 1 and text[0] == text[-1] == "$" and "$" not in text[1:-1]
    return text[1:-1].strip() if whole else text


def _after(where: str, answer: str, mark: str) -> str:
    _, found, last = answer.rpartition(mark)
    if not found or not last.strip():
        raise _NoAnswer(f"{where} has no answer: nothing follows a {mark!r} (task.answer_after)")
    return last.strip()


def _named(row: Mapping[str, Any]) -> str:
    return ", ".join(str(name) for name in row)


def _quoted(names: str | Sequence[str]) -> str:
    return repr(names) if isinstance(names, str) else " or ".join(map(repr, names))
