"""Cells of data sets as text: numbers in plain digits, bytes decoded, objects refused."""

import string
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, datetime, time
from decimal import Decimal
from typing import Any

# Numbers that no data were written for, as programs write them into columns of text.
NO_NUMBERS = ("nan", "NaN", "NaT", "<NA>")
INVISIBLE = "\0\u200b\ufeff" + string.whitespace
# Python's own limit between whole numbers and text.
MOST_DIGITS = 4300


class CellError(ValueError):
    """A cell that cannot be read; the message says what it holds, and what to do."""


@dataclass(frozen=True)
class UnreadableCell:
    """The value of a cell that its file's library could not read, with the reason."""

    reason: str


DOUBLED = UnreadableCell("several columns have this name")


def plain_text(cell: Any) -> str | None:
    """Return one value as text, ``None`` where there is no value.

    No value are null, white space, and numbers that are not finite. Raises ``CellError`` for what
    is neither text nor number nor date.
    """
    if cell is None:
        return None
    if isinstance(cell, bool):
        return str(cell)
    if isinstance(cell, bytes | bytearray | memoryview):
        cell = _decoded(bytes(cell))
    if isinstance(cell, str):
        text = cell.strip()
        return text if text.strip(INVISIBLE) and text not in NO_NUMBERS else None
    if isinstance(cell, int | float | Decimal):
        return _digits(cell)
    if isinstance(cell, datetime):
        # Programs store dates as midnight.
        is_date = cell.tzinfo is None and cell.time() == time.min
        return cell.date().isoformat() if is_date else cell.isoformat()
    if isinstance(cell, date | time):
        return cell.isoformat()
    if isinstance(cell, UnreadableCell):
        raise CellError(f"holds a value that cannot be read: {cell.reason}")
    raise CellError(f"holds {kind_of(cell)}, which is no text")


def texts(cell: Any) -> list[str] | None:
    """Return the values of a list as texts, of one value as a list of one.

    ``None`` where there is no value, or where a list has an empty part. Raises ``CellError``.
    """
    parts = list(cell) if isinstance(cell, list | tuple) else [cell]
    if any(isinstance(part, list | tuple) for part in parts):
        raise CellError("holds a list of lists, which is no text")
    found = [plain_text(part) for part in parts]
    known = [text for text in found if text is not None]
    return known if known and len(known) == len(found) else None


def is_empty(cell: Any) -> bool:
    """Whether a cell has no value."""
    try:
        return texts(cell) is None
    except CellError:
        return False


def kind_of(cell: Any) -> str:
    """Say what a cell holds: "an object", "a list", or the name of its type."""
    if isinstance(cell, Mapping):
        return "an object"
    if isinstance(cell, list | tuple):
        return "a list"
    return f"a {type(cell).__name__}"


def _decoded(value: bytes) -> str:
    try:
        # Arrays of fixed width fill up with NULs.
        return value.decode("utf-8-sig").rstrip("\0")
    except UnicodeDecodeError:
        raise CellError("holds bytes that are not UTF-8, which are no text") from None


def _digits(value: float | Decimal) -> str | None:
    """Return a number in plain digits (``1e16`` has 17), ``None`` where it is not finite."""
    number = Decimal(float.__repr__(value) if isinstance(value, float) else value)
    if not number.is_finite():
        return None
    _, digits, exponent = number.as_tuple()
    if max(len(digits) + int(exponent), -int(exponent)) > MOST_DIGITS:
        raise CellError(f"holds a number of more than {MOST_DIGITS} digits")
    text = format(number, "f")
    if "." in text:
        text = text.rstrip("0").rstrip(".")
    return "0" if text == "-0" else text
