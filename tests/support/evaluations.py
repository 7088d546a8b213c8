"""Evaluations within the test's own process."""

import json
import sys
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from asym_lightning.commands.cli import entry

BOTH = ("benchmarks=[parity,amc23]", "samples=4", "temperature=0.7", "rollout.max_tokens=12", "problems_per_part=2")


def arguments(benchmark_folder: Path, into: Path, *overrides: str) -> list[str]:
    given = (
        f"policy.path={benchmark_folder / 'policy'}",
        f"benchmarks.amc23.path={benchmark_folder / 'amc.jsonl'}",
        f"hydra.run.dir={into}",
    )
    return ["evaluate.py", "--config-dir", str(benchmark_folder / "conf"), *given, *BOTH, *overrides]


def score(monkeypatch: pytest.MonkeyPatch, benchmark_folder: Path, into: Path, *overrides: str) -> dict[str, Any]:
    """An evaluation within the test's own process with the portable engine; its results."""
    monkeypatch.setattr(sys, "argv", arguments(benchmark_folder, into, "rollout.engine=transformers", *overrides))
    entry("evaluate", "asym_lightning.commands.evaluate.run:evaluate", "asym_lightning.commands.evaluate.run:check_all")
    return results(into)


def results(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "results.json").read_text())["benchmarks"]


def completions(folder: Path) -> pd.DataFrame:
    return pd.concat([pd.read_parquet(folder / f"{name}.parquet") for name in ("parity", "amc23")], ignore_index=True)


def refused(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, benchmark_folder: Path, into: Path, *overrides: str
) -> str:
    with pytest.raises(SystemExit) as stopped:
        score(monkeypatch, benchmark_folder, into, *overrides)
    lines = capsys.readouterr().err.strip().splitlines()
    assert stopped.value.code == 2 and len(lines) == 1, lines
    return lines[0]
