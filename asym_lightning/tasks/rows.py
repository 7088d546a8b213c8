"""Rows of local files and of data sets on the hub."""

import csv
import json
from collections.abc import Iterable, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

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
            available = _file_rows(place)
        else:
            available = _hub_rows(str(place) if local else path, subset, split)
        rows = list(islice(available, limit))
    # pyarrow, json, datasets and the network raise errors of different classes.
    except Exception as error:
        lines = str(error).strip().splitlines() or [""]
        raise FieldError(
            f"{field}={path} cannot be read: {type(error).__name__}: {lines[0][:200]}"
        ) from error
    if not rows:
        raise FieldError(f"{field}={path} has no rows")
    return rows


def _file_rows(file: Path) -> Iterable[Mapping[str, Any]]:
    """Yield the rows of a file, read directly: ``datasets`` would copy it into the user's cache."""
    suffix = file.suffix.lower()
    if suffix == ".parquet":
        import pyarrow.parquet

        yield from pyarrow.parquet.read_table(file).to_pylist()
        return
    with file.open(encoding="utf-8-sig", newline="" if suffix == ".csv" else None) as stream:
        if suffix == ".csv":
            yield from csv.DictReader(stream)
            return
        for number, line in enumerate(stream, start=1):
            if line.strip():
                yield _json_object(number, line)


def _json_object(number: int, line: str) -> dict[str, Any]:
    """Parse one line of a JSONL file. Raises ``ValueError`` unless it is an object."""
    try:
        row = json.loads(line)
    except ValueError:
        row = None
    if not isinstance(row, dict):
        raise ValueError(f"line {number} is not a JSON object (one per line)")
    return row


def _hub_rows(path: str, subset: str | None, split: str) -> Iterable[Mapping[str, Any]]:
    """Return the rows of a data set: in a folder, on the hub, or in the cache without the hub."""
    import datasets
    from huggingface_hub import constants

    asks_hub = not (Path(path).is_dir() or datasets.config.HF_HUB_OFFLINE)
    failure = _hub_failure() if asks_hub else ""
    if failure:
        read_cache_only()
    try:
        return datasets.load_dataset(path, subset, split=split)
    except ConnectionError:
        if constants.HF_HUB_OFFLINE:
            cause = "HF_HUB_OFFLINE is set"
        else:
            cause = f"{constants.ENDPOINT} does not answer{failure}"
        raise ConnectionError(
            f"{cause}, and the cache of data sets has no copy; "
            f"give a local {', '.join(SUFFIXES)} file"
        ) from None


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
