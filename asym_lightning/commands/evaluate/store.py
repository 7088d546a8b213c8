"""What an evaluation has answered so far, on disk: an interrupted one goes on from there, with any number of ranks."""

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from asym_lightning.types import ConfigError, RolloutGroup

SCHEMA = pa.schema(
    {
        "number": pa.int64(),
        "sample": pa.int64(),
        "problem": pa.string(),
        "prompt": pa.string(),
        "reference": pa.string(),
        "completion": pa.string(),
        "tokens": pa.int64(),
        "truncated": pa.bool_(),
        "reward": pa.float64(),
        "kind": pa.string(),
        "answer": pa.string(),
        "detail": pa.string(),
    }
)


class Store:
    """The completions of one benchmark: parts while it runs, ``NAME.parquet`` when all its problems are answered.

    Args:
        folder: of the evaluation.
        name: of the benchmark.
    """

    def __init__(self, folder: Path, name: str):
        self.whole = folder / f"{name}.parquet"
        self.parts = folder / "parts" / name

    def pending(self, problems: int) -> list[int]:
        """Numbers of the problems that are not answered yet."""
        if self.whole.is_file():
            return []
        done = {number for path in self.parts.glob("*.parquet") for number in pq.read_table(path, columns=["number"])["number"].to_pylist()}
        return [i for i in range(problems) if i not in done]

    def add(self, numbers: Sequence[int], groups: Sequence[RolloutGroup], rows: Sequence[dict[str, Any]]) -> None:
        """Keep the completions of some problems; a file is there whole or not at all."""
        n = len(groups[0].completions)
        table = [{"number": numbers[i // n], "sample": i % n, **row} for i, row in enumerate(rows)]
        self.parts.mkdir(parents=True, exist_ok=True)
        _write(pa.Table.from_pylist(table, SCHEMA), self.parts / f"{numbers[0]:08d}.parquet")

    def finish(self) -> list[dict[str, Any]]:
        """All completions in order of problem and sample; the parts become one file."""
        if not self.whole.is_file():
            table = pa.concat_tables([pq.read_table(path) for path in sorted(self.parts.glob("*.parquet"))])
            _write(table.sort_by([("number", "ascending"), ("sample", "ascending")]), self.whole)
        for path in self.parts.glob("*.parquet"):
            path.unlink()
        return pq.read_table(self.whole).to_pylist()


def _write(table: pa.Table, target: Path) -> None:
    beside = target.with_suffix(".tmp")
    pq.write_table(table, beside)
    os.replace(beside, target)


def check_same(file: Path, settings: Mapping[str, Any]) -> None:
    """Refuse to go on in a folder whose settings (``file``) are others: half of the answers would be of another evaluation. Benchmarks
    may be added or left out.

    Raises:
        ConfigError: it names the first key that differs.
    """
    if not file.is_file():
        return
    before = json.loads(file.read_text())
    for key, value in json.loads(json.dumps(settings)).items():
        if key in before and before[key] != value:
            raise ConfigError(
                f"hydra.run.dir={file.parent} holds an evaluation with {key}={before[key]}, now it is {value}; name a new folder"
            )


def remember(file: Path, settings: Mapping[str, Any]) -> None:
    """Write the settings down, those of earlier benchmarks kept."""
    before = json.loads(file.read_text()) if file.is_file() else {}
    beside = file.with_suffix(".tmp")
    beside.write_text(json.dumps({**before, **settings}, indent=1))
    os.replace(beside, file)
