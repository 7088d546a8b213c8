"""Evaluations within the test's process, and their command lines."""

import json
import sys
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from asym_lightning.commands.cli import entry

BOTH = (
    "benchmarks=[parity,amc23]",
    "samples=4",
    "temperature=0.7",
    "rollout.max_tokens=12",
    "problems_per_part=2",
)


def arguments(benchmark_folder: Path, into: Path, *overrides: str) -> list[str]:
    given = (
        f"policy.path={benchmark_folder / 'policy'}",
        f"benchmarks.amc23.path={benchmark_folder / 'amc.jsonl'}",
        f"hydra.run.dir={into}",
    )
    configs = ("--config-dir", str(benchmark_folder / "conf"))
    return ["evaluate.py", *configs, *given, *BOTH, *overrides]


def score(
    monkeypatch: pytest.MonkeyPatch, benchmark_folder: Path, into: Path, *overrides: str
) -> dict[str, Any]:
    """Evaluate within the test's process with the portable engine, and return the results."""
    line = arguments(benchmark_folder, into, "rollout.engine=transformers", *overrides)
    monkeypatch.setattr(sys, "argv", line)
    module = "asym_lightning.commands.evaluate.run"
    entry("evaluate", f"{module}:evaluate", f"{module}:check_all")
    return results(into)


def results(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "results.json").read_text())["benchmarks"]


def completions(folder: Path) -> pd.DataFrame:
    tables = [pd.read_parquet(folder / f"{name}.parquet") for name in ("parity", "amc23")]
    return pd.concat(tables, ignore_index=True)


def refused(
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    benchmark_folder: Path,
    into: Path,
    *overrides: str,
) -> str:
    """The line with which an evaluation is refused."""
    with pytest.raises(SystemExit) as stopped:
        score(monkeypatch, benchmark_folder, into, *overrides)
    lines = capsys.readouterr().err.strip().splitlines()
    assert stopped.value.code == 2 and len(lines) == 1, lines
    return lines[0]
