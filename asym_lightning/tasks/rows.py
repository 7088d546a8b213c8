"""Rows of local files and of hub data sets."""

import csv
import json
from collections.abc import Iterable, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from asym_lightning.types import ConfigError

SUFFIXES = (".parquet", ".jsonl", ".json", ".csv")


def read_rows(path: str, split: str, limit: int | None, key: str = "task.path", subset: str | None = None) -> Sequence[Mapping[str, Any]]:
    """Rows of a local Parquet, JSONL or CSV file, or of ``split`` of a data set (a hub id, or a folder that ``datasets`` can load);
    the first ``limit`` of them. ``subset`` is the data set's configuration, where it has several.

    Raises ``ConfigError``, which begins with ``key``, when there is no such file or data set, it cannot be read, or has no rows.
    """
    place = Path(path).expanduser()
    local = place.exists() or place.suffix.lower() in SUFFIXES or path.startswith(("/", ".", "~")) or path.count("/") > 1
    if local and not place.exists():
        raise ConfigError(f"{key}={path} is no file: give a local {', '.join(SUFFIXES)} file or the id of a hub data set (owner/name)")
    if place.is_file() and place.suffix.lower() not in SUFFIXES:
        raise ConfigError(f"{key}={path} is of no known format: give a {', '.join(SUFFIXES)} file")
    try:
        rows = list(islice(_file_rows(place) if place.is_file() else _hub_rows(str(place) if local else path, subset, split), limit))
    except Exception as error:  # pyarrow, json, datasets and the network each have their own
        lines = str(error).strip().splitlines() or [""]
        raise ConfigError(f"{key}={path} cannot be read: {type(error).__name__}: {lines[0][:200]}") from error
    if not rows:
        raise ConfigError(f"{key}={path} has no rows")
    return rows


def _file_rows(file: Path) -> Iterable[Mapping[str, Any]]:
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


def _hub_rows(path: str, subset: str | None, split: str) -> Iterable[Mapping[str, Any]]:
    import datasets
    from huggingface_hub import constants

    silence = "" if Path(path).is_dir() or datasets.config.HF_HUB_OFFLINE else _hub_silence()
    if silence:
        datasets.config.HF_HUB_OFFLINE = True  # what is in the cache, without half a minute of retries for each file
    try:
        return datasets.load_dataset(path, subset, split=split)
    except ConnectionError:
        why = "HF_HUB_OFFLINE is set" if constants.HF_HUB_OFFLINE else f"{constants.ENDPOINT} does not answer{silence}"
        raise ConnectionError(f"{why}, and the cache of data sets has no copy; give a local {', '.join(SUFFIXES)} file") from None


def _hub_silence() -> str:
    """Empty where the hub can be reached, else why not, in brackets; asked once and not for long."""
    from huggingface_hub import constants, get_session

    try:
        get_session().head(constants.ENDPOINT, timeout=10)
    except Exception as error:  # of the HTTP library, which differs between versions of huggingface_hub
        return f" ({type(error).__name__})"
    return ""
