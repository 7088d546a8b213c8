"""The completions and settings of an evaluation on disk.

An interrupted evaluation resumes from them, with any number of ranks.
"""

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
        "text": pa.string(),
        "detail": pa.string(),
    }
)


class Store:
    """The completions of a benchmark.

    They are in parts while the evaluation runs, and in ``NAME.parquet`` when all problems are
    answered.

    Args:
        folder: the folder of the evaluation.
        name: the name of the benchmark.
    """

    def __init__(self, folder: Path, name: str):
        self.file = folder / f"{name}.parquet"
        self.parts = folder / "parts" / name

    def pending(self, problems: int) -> list[int]:
        """Return the numbers of the problems that are not answered yet."""
        if self.file.is_file():
            return []
        done = {
            number
            for path in self.parts.glob("*.parquet")
            for number in pq.read_table(path, columns=["number"])["number"].to_pylist()
        }
        return [i for i in range(problems) if i not in done]

    def add(
        self, numbers: Sequence[int], groups: Sequence[RolloutGroup], rows: Sequence[dict[str, Any]]
    ) -> None:
        """Write the completions of some problems as a part; a part is never written in half."""
        n = len(groups[0].completions)
        table = [{"number": numbers[i // n], "sample": i % n, **row} for i, row in enumerate(rows)]
        self.parts.mkdir(parents=True, exist_ok=True)
        _write(pa.Table.from_pylist(table, SCHEMA), self.parts / f"{numbers[0]:08d}.parquet")

    def finish(self) -> list[dict[str, Any]]:
        """Merge the parts into a file; return all completions in order of problem and sample."""
        if not self.file.is_file():
            parts = [pq.read_table(path) for path in sorted(self.parts.glob("*.parquet"))]
            # Parts of an earlier version may lack a column.
            table = pa.concat_tables(parts, promote_options="default")
            order = [("number", "ascending"), ("sample", "ascending")]
            _write(table.sort_by(order), self.file)
        for path in self.parts.glob("*.parquet"):
            path.unlink()
        return pq.read_table(self.file).to_pylist()


def _write(table: pa.Table, target: Path) -> None:
    temporary = target.with_suffix(".tmp")
    pq.write_table(table, temporary)
    os.replace(temporary, target)


def check_same(file: Path, settings: Mapping[str, Any]) -> None:
    """Refuse to resume in the folder of an evaluation with other settings.

    Some of the answers would be those of the other evaluation. Benchmarks may be added or left out.

    Args:
        file: the settings in the folder.
        settings: the settings of this evaluation.

    Raises:
        ConfigError: one line that names the first key that differs.
    """
    if not file.is_file():
        return
    before = json.loads(file.read_text())
    for key, value in json.loads(json.dumps(settings)).items():
        if key in before and before[key] != value:
            raise ConfigError(
                f"hydra.run.dir={file.parent} holds an evaluation with {key}={before[key]}, "
                f"now it is {value}; name a new folder"
            )


def remember(file: Path, settings: Mapping[str, Any]) -> None:
    """Write the settings to ``file``; keep those of earlier benchmarks."""
    before = json.loads(file.read_text()) if file.is_file() else {}
    temporary = file.with_suffix(".tmp")
    temporary.write_text(json.dumps({**before, **settings}, indent=1))
    os.replace(temporary, file)
