"""Rows of local files and of data sets on the hub."""

import csv
import json
from collections.abc import Iterator, Mapping, Sequence
from decimal import Decimal
from itertools import islice
from pathlib import Path
from typing import Any, TextIO

from asym_lightning.tasks.cells import DOUBLED, MOST_DIGITS
from asym_lightning.tasks.datasets_patches import read_cache_only
from asym_lightning.types import FieldError

SUFFIXES = (".parquet", ".jsonl", ".json", ".csv")


def read_rows(
    path: str, split: str, limit: int | None, field: str = "path", subset: str | None = None
) -> Sequence[Mapping[str, Any]]:
    """Return the rows of a local file or of a data set.

    Args:
        path: a local Parquet, JSONL or CSV file, the hub id of a data set, or a folder that
            ``datasets`` can load.
        split: of the data set.
        limit: only the first rows, that many.
        field: name of the task's field that holds ``path``.
        subset: the configuration of a data set that has several.

    Raises:
        FieldError: there is no such file or data set, it cannot be read, or it has no rows.
    """
    place = Path(path).expanduser()
    local = (
        place.exists()
        or place.suffix.lower() in SUFFIXES
        or path.startswith(("/", ".", "~"))
        or path.count("/") > 1
    )
    suffixes = ", ".join(SUFFIXES)
    if local and not place.exists():
        raise FieldError(
            f"{field}={path} is no file: give a local {suffixes} file "
            "or the id of a hub data set (owner/name)"
        )
    if place.is_file() and place.suffix.lower() not in SUFFIXES:
        raise FieldError(f"{field}={path} is of no known format: give a {suffixes} file")
    try:
        if place.is_file():
            rows = _file_rows(place, limit)
        else:
            rows = _hub_rows(str(place) if local else path, subset, split, limit=limit)
    # pyarrow, json, datasets and the network raise errors of different classes.
    except Exception as error:
        raise FieldError(f"{field}={path} cannot be read: {_reason(error)}") from error
    if not rows:
        raise FieldError(f"{field}={path} has no rows")
    return rows


def _reason(error: BaseException) -> str:
    """Return the class and the first line of an error, and those of its first cause.

    ``datasets`` hides what is wrong with a file behind an error of its own.
    """
    lines = str(error).strip().splitlines() or [""]
    reason = f"{type(error).__name__}: {lines[0][:200]}"
    hidden = type(error).__name__ == "DatasetGenerationError" and error.__cause__
    return f"{reason}: {_reason(hidden)}" if hidden else reason


def _file_rows(file: Path, limit: int | None) -> Sequence[Mapping[str, Any]]:
    """Return the rows of a file, read directly: ``datasets`` would copy it into the user's cache.

    Bytes of a text file that are not UTF-8 stay in the cells as halves of surrogate pairs.
    """
    suffix = file.suffix.lower()
    if suffix == ".parquet":
        import pyarrow.parquet

        from asym_lightning.tasks.tables import table_rows

        return table_rows(pyarrow.parquet.read_table(file).slice(0, limit))
    newline = "" if suffix == ".csv" else None
    with file.open(encoding="utf-8-sig", errors="surrogateescape", newline=newline) as stream:
        rows = _csv_rows(stream) if suffix == ".csv" else _json_rows(stream)
        return list(islice(rows, limit))


def _csv_rows(stream: TextIO) -> Iterator[Mapping[str, Any]]:
    """Yield the rows of a CSV file. Cells beyond the header are under ``None``, if not all empty.

    Raises ``ValueError`` for a quote that is not closed: the rest of the file would be one cell.
    """
    csv.field_size_limit(2**31 - 1)
    reader = csv.reader(stream, strict=True)
    rows = last_line = 0
    try:
        header, last_line = next(reader, []), reader.line_num
        doubled = {name: DOUBLED for name in header if header.count(name) > 1}
        for cells in reader:
            rows, last_line = rows + bool(cells), reader.line_num
            row: dict[Any, Any] = dict.fromkeys(header) | dict(zip(header, cells, strict=False))
            if any(cells[len(header) :]):
                row[None] = cells[len(header) :]
            if cells:
                yield row | doubled
    except csv.Error as error:
        line = last_line + 1
        raise ValueError(f"row {rows + 1}, from line {line} on: {error}") from None


def _json_rows(stream: TextIO) -> Iterator[Mapping[str, Any]]:
    for number, line in enumerate(stream, start=1):
        if line.strip():
            yield _json_object(number, line)


def _whole_number(digits: str) -> int | Decimal:
    """Return a whole number of any length; Python limits the digits of ``int``."""
    return int(digits) if len(digits) < MOST_DIGITS else Decimal(digits)


# Numbers keep the digits that the file has: 1e400 is not infinite.
_DECODER = json.JSONDecoder(parse_float=Decimal, parse_int=_whole_number)


def _json_object(number: int, line: str) -> dict[str, Any]:
    """Parse one line of a JSONL file. Raises ``ValueError`` unless it is an object."""
    try:
        row = _DECODER.decode(line)
    except (ValueError, ArithmeticError, RecursionError):
        row = None
    if not isinstance(row, dict):
        raise ValueError(f"line {number} is not a JSON object (one per line)")
    return row


def _hub_rows(
    path: str, subset: str | None, split: str, limit: int | None
) -> Sequence[Mapping[str, Any]]:
    """Return the rows of a data set: in a folder, on the hub, or in the cache without the hub."""
    import datasets
    from huggingface_hub import constants

    from asym_lightning.tasks.tables import dataset_rows

    asks_hub = not (Path(path).is_dir() or datasets.config.HF_HUB_OFFLINE)
    failure = _hub_failure() if asks_hub else ""
    if failure:
        read_cache_only()
    try:
        dataset = datasets.load_dataset(path, subset, split=split)
    except ConnectionError:
        if constants.HF_HUB_OFFLINE:
            cause = "HF_HUB_OFFLINE is set"
        else:
            cause = f"{constants.ENDPOINT} does not answer{failure}"
        raise ConnectionError(
            f"{cause}, and the cache of data sets has no copy; "
            f"give a local {', '.join(SUFFIXES)} file"
        ) from None
    return dataset_rows(dataset if limit is None else dataset.take(limit))


def _hub_failure() -> str:
    """Return "" where the hub can be reached, else the kind of error in brackets.

    Asks once, with a short time limit.
    """
    from huggingface_hub import constants, get_session

    try:
        get_session().head(constants.ENDPOINT, timeout=10)
    # Errors of the HTTP library, which differs between versions of huggingface_hub.
    except Exception as error:
        return f" ({type(error).__name__})"
    return ""
