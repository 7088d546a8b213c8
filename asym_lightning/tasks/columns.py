"""The way from rows to problems: roles of the columns, and forms of answers in data sets."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field

from asym_lightning.checks import validated
from asym_lightning.runtime.characters import clean_text
from asym_lightning.tasks.cells import CellError, is_empty, plain_text, texts
from asym_lightning.tasks.chats import Turns, chat_turns
from asym_lightning.types import FieldError, Problem
from asym_lightning.verify.math import last_boxed

ColumnNames = Annotated[
    str | Annotated[list[str], Field(min_length=1)],
    Field(description="the name of a column, or a list of names"),
]
# Rows that a note names.
LISTED = 5


class _LeftOutError(FieldError):
    """A row that has the columns, but no problem or no answer in them: ``lack`` says which."""

    def __init__(self, message: str, lack: str):
        super().__init__(message)
        self.lack = lack


@validated
@dataclass(frozen=True)
class Columns:
    """Names of the columns that make a problem.

    A dot leads into a nested column (``reward_model.ground_truth``). Of several names, the first
    that a row has counts, before the others one that is not empty.

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
    ) -> tuple[list[Problem], list[str]]:
        """Return the rows as problems, and notes on rows that were left out or changed.

        A row without a problem or an answer is left out. Raises ``FieldError`` for a row without
        the columns or with a cell that cannot be read, and when no row is left.
        """
        problems: list[Problem] = []
        left_out: dict[str, list[str]] = {}
        cleaned: list[str] = []
        first: FieldError | None = None
        for number, row in enumerate(rows, start=1):
            try:
                raw = self._problem(path, number, row)
            except _LeftOutError as error:
                first = first or error
                left_out.setdefault(error.lack, []).append(str(number))
                continue
            problem = _cleaned(raw)
            if problem != raw:
                changed = [
                    column
                    for column, before, after in (
                        ("problem", raw.text, problem.text),
                        ("answer", raw.answer, problem.answer),
                    )
                    if before != after
                ]
                cleaned.append(f"{number} {' and '.join(changed)}")
            problems.append(problem)
        if first and not problems:
            raise first
        notes = [
            f"{path}: {len(numbers)} of {len(rows)} rows {lack} and are left out "
            f"(row {_listed(numbers)})"
            for lack, numbers in left_out.items()
        ]
        if cleaned:
            notes.append(
                f"{path}: {len(cleaned)} of {len(rows)} rows hold NULs or characters that are not "
                f"valid, which become U+FFFD (row {_listed(cleaned)})"
            )
        return problems, notes

    def _problem(self, path: str, number: int, row: Mapping[str, Any]) -> Problem:
        """Return a row as a problem. Raises ``FieldError``; ``_LeftOutError`` to leave it out."""
        where = f"row {number} of {path}"
        if None in row:
            raise _LeftOutError(
                f"{where} has more cells than the header", "have more cells than the header"
            )
        name, cell = _cell(row, self.problem_column)
        place = f"problem_column={self.problem_column}: {where}"
        chat, text = None, None
        # An empty list is not a chat.
        if cell != []:
            try:
                chat = chat_turns(cell)
                text = plain_text(cell) if chat is None else _conversation(chat)
            except CellError as error:
                raise _refusal("problem_column", place, name, cell=cell, error=error) from None
        if text is None:
            lack = f"{place} has no {_quoted(self.problem_column)}; its columns: {_columns(row)}"
            raise FieldError(lack) if name is None else _LeftOutError(lack, "have no problem")
        answer = _without_dollars(self._answer(where, row).strip())
        if not answer:
            place = f"answer_column={self.answer_column}: {where}"
            raise _LeftOutError(f"{place} has an empty answer", "have no answer")
        identifier = clean_text(f"{Path(path).stem}/{number}")
        return Problem(identifier, text, answer, chat=chat or ())

    def _answer(self, where: str, row: Mapping[str, Any]) -> str:
        """Return the reference answer of a row, perhaps between dollars.

        Raises ``_LeftOutError`` where its cells are empty, ``FieldError`` where it lacks the
        columns or they cannot be read.
        """
        place = f"answer_column={self.answer_column}: {where}"
        answer_name, cell = _cell(row, self.answer_column)
        try:
            answers = texts(cell)
        except CellError as error:
            raise _refusal("answer_column", place, answer_name, cell=cell, error=error) from None
        if answers is not None:
            if isinstance(cell, list | tuple):
                answers = [_without_dollars(answer) for answer in answers]
            answer = ", ".join(answers)
            return _after(where, answer, self.answer_after) if self.answer_after else answer
        solution_name, cell = _cell(row, self.solution_column)
        try:
            solutions = texts(cell)
        except CellError as error:
            place = f"solution_column={self.solution_column}: {where}"
            raise _refusal(
                "solution_column", place, solution_name, cell=cell, error=error
            ) from None
        if solutions is None:
            lack = (
                f"{place} has no {_quoted(self.answer_column)} and no "
                f"{_quoted(self.solution_column)} (solution_column) to take it from; "
                f"its columns: {_columns(row)}"
            )
            if answer_name is None and solution_name is None:
                raise FieldError(lack)
            raise _LeftOutError(lack, "have no answer")
        boxed = last_boxed("\n".join(solutions))[0]
        if not boxed:
            raise _LeftOutError(
                f"{place} has no answer: no {_quoted(self.answer_column)}, "
                f"and no closed \\boxed{{}} in {_quoted(self.solution_column)}",
                f"have no answer, nor a closed \\boxed{{}} in {_quoted(self.solution_column)},",
            )
        return boxed


def _cell(row: Mapping[str, Any], names: str | list[str]) -> tuple[str | None, Any]:
    """Return name and value of the first of the columns that has a value.

    A column that is there but empty counts where no other one has a value; the name is ``None``
    where the row has no such column.
    """
    found: tuple[str | None, Any] = (None, None)
    if isinstance(names, str):
        is_there, value = _value(row, names)
        return (names, value) if is_there else found
    for name in names:
        is_there, value = _value(row, name)
        if is_there and not is_empty(value):
            return name, value
        if is_there and found[0] is None:
            found = (name, value)
    return found


def _value(row: Mapping[str, Any], name: str) -> tuple[bool, Any]:
    """Return whether a row has a column, and its value; a null on the way there is a null."""
    if name in row:
        return True, row[name]
    value: Any = row
    for part in name.split("."):
        if value is None:
            return True, None
        if not isinstance(value, Mapping) or part not in value:
            return False, None
        value = value[part]
    return True, value


def _refusal(key: str, place: str, name: str | None, *, cell: Any, error: CellError) -> FieldError:
    """Return the error for a cell that cannot be read, with the way into an object."""
    hint = ""
    if isinstance(cell, Mapping) and cell:
        fields = [_shown(field) for field in list(cell)[:LISTED]]
        hint = (
            f"; a dot leads to one of its fields ({', '.join(fields)}), such as "
            f"{key}={name}.{fields[0]}"
        )
    return FieldError(f"{place}, column {_shown(name)}, {error}{hint}")


def _conversation(chat: Turns) -> str | None:
    """Return the contents of a chat as one text, ``None`` where nothing is asked at its end."""
    if plain_text(chat[-1][1]) is None:
        return None
    return "\n\n".join(content for _, content in chat if content)


def _cleaned(problem: Problem) -> Problem:
    """Return a problem without characters that no encoding takes."""
    text, answer = clean_text(problem.text), clean_text(problem.answer)
    if text == problem.text and answer == problem.answer:
        return problem
    chat = tuple((role, clean_text(content)) for role, content in problem.chat)
    return Problem(problem.id, text, answer, chat=chat)


def _without_dollars(text: str) -> str:
    """Return ``x`` for ``$x$``."""
    enclosed = len(text) > 1 and text[0] == text[-1] == "$" and "$" not in text[1:-1]
    return text[1:-1].strip() if enclosed else text


def _after(where: str, answer: str, mark: str) -> str:
    """Return the text after the last ``mark``. Raises ``_LeftOutError`` where it is empty."""
    _, separator, last = answer.rpartition(mark)
    if not separator or not last.strip():
        raise _LeftOutError(
            f"answer_after={mark!r}: {where} has no answer: no text follows it",
            f"have no answer after {mark!r}",
        )
    return last.strip()


def _listed(entries: Sequence[str]) -> str:
    return ", ".join(entries[:LISTED]) + (", ..." if len(entries) > LISTED else "")


def _columns(row: Mapping[str, Any]) -> str:
    return ", ".join(_shown(name) for name in row)


def _shown(name: object) -> str:
    """Return the name of a column so that it stays on one line."""
    text = clean_text(str(name))
    return text if text.isprintable() else repr(text)


def _quoted(names: str | list[str]) -> str:
    return repr(names) if isinstance(names, str) else " or ".join(map(repr, names))
