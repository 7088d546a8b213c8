"""Finds run directories and reads what they hold; a run that cannot be used is named with the reason."""

import json
import os
from collections.abc import Iterable
from dataclasses import dataclass
from math import inf, isfinite, nan
from pathlib import Path
from typing import Any

import pandas as pd

from asym_lightning.runtime.moved import with_new_targets

REQUIRED = {"status": str, "algorithm": str, "seed": int, "iterations": int, "config": dict}


class Refused(ValueError):
    """A comparison or a run that cannot be used. The message is one line: what is wrong and what would be right."""


@dataclass(frozen=True, eq=False)
class Run:
    """One run. ``config`` has one entry per leaf of the resolved config (dotted keys), its own folder written as ``RUN``.

    ``train`` holds one row per iteration, ``evals`` one per evaluation; both are indexed by ``step``. An evaluation at step n comes
    after n iterations. ``before`` and ``after`` are the evaluations around the whole run.
    """

    folder: Path
    algorithm: str
    seed: int
    status: str
    error: str | None
    config: dict[str, Any]
    versions: dict[str, str]
    git_revision: str | None
    before: dict[str, float]
    after: dict[str, float]
    wall_seconds: float | None
    train: pd.DataFrame
    evals: pd.DataFrame

    @property
    def length(self) -> int:
        """Iterations done since the very first, also where a resumed run's folder holds only the later ones."""
        return int(self.train.index[-1]) + 1


@dataclass(frozen=True)
class LeftOut:
    """A folder that is no part of the comparison, and why."""

    folder: Path
    reason: str


def read_runs(paths: Iterable[Path], unfinished: bool = False) -> tuple[list[Run], list[LeftOut]]:
    """The runs at and below ``paths``, sorted by folder, and what was left out.

    Args:
        unfinished: also take runs that were interrupted or failed.

    Raises:
        Refused: a path does not exist, or no run can be used.
    """
    folders, left_out = find(paths)
    runs = []
    for folder in folders:
        try:
            run = read(folder)
        except Refused as error:
            left_out.append(LeftOut(folder, str(error)))
            continue
        if run.status == "done" or unfinished:
            runs.append(run)
        else:
            why = f" ({run.error})" if run.error else ""
            left_out.append(LeftOut(folder, f"status {run.status}{why} after {run.length} iterations; --unfinished takes it in"))
    if not runs:
        first = f"; the first of {len(left_out)} left out: {left_out[0].folder}: {left_out[0].reason}" if left_out else ""
        raise Refused(f"no finished run (a folder with summary.json and metrics.csv) in {', '.join(map(str, paths))}{first}")
    return runs, left_out


def find(paths: Iterable[Path]) -> tuple[list[Path], list[LeftOut]]:
    """Run directories at and below ``paths``, each once, and folders that a run began and did not close."""
    found: dict[Path, Path] = {}
    left_out: dict[Path, LeftOut] = {}
    for path in paths:
        if not path.exists():
            raise Refused(f"{path}: there is no such folder")
        if not path.is_dir():
            left_out[path] = LeftOut(path, "a file, not a folder")
            continue
        any_run = False
        for place, folders, files in os.walk(path):
            folder = Path(place)
            if "summary.json" in files:
                found.setdefault(folder.resolve(), folder)
            elif "metrics.csv" in files or ".hydra" in folders:
                left_out[folder.resolve()] = LeftOut(folder, "no summary.json: it is still running, or was killed")
            else:
                folders.sort()
                continue
            folders.clear()  # a run holds no further runs
            any_run = True
        if not any_run:
            left_out[path] = LeftOut(path, "no run in it")
    return sorted(found.values()), list(left_out.values())


def read(folder: Path) -> Run:
    """Read one run directory.

    Raises:
        Refused: a file is missing, broken or shorter than the summary says.
    """
    summary = _summary(folder / "summary.json")
    status, why = summary["status"], summary.get("error")
    try:
        train, evals = _metrics(folder / "metrics.csv")
    except Refused as error:  # of a run that failed before its first iteration, its own words say more
        raise Refused(f"status {status}: {why or error}" if status != "done" else str(error)) from None
    if len(train) < summary["iterations"]:
        raise Refused(f"metrics.csv: a reward in {len(train)} of {summary['iterations']} iterations only")
    return Run(
        folder,
        summary["algorithm"],
        summary["seed"],
        status,
        why,
        _own_folder_named(leaves(with_new_targets(summary["config"]))),
        summary.get("versions") or {},
        summary.get("git_revision"),
        _numbers((summary.get("evaluation") or {}).get("before")),
        _numbers((summary.get("evaluation") or {}).get("after")),
        _numbers(summary).get("wall_seconds"),
        train,
        evals,
    )


def _summary(path: Path) -> dict[str, Any]:
    try:
        summary = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise Refused(f"summary.json cannot be read: {' '.join(str(error).split())}") from None
    if not isinstance(summary, dict):
        raise Refused("summary.json holds no object")
    for key, kind in REQUIRED.items():
        if not isinstance(summary.get(key), kind):
            raise Refused(f"summary.json: '{key}' is missing or not of type {kind.__name__}")
    return summary


def _numbers(found: Any) -> dict[str, float]:
    """What is a finite number of a mapping, or of nothing at all."""
    items = found.items() if isinstance(found, dict) else ()
    return {k: float(v) for k, v in items if isinstance(v, int | float) and not isinstance(v, bool) and isfinite(v)}


def _metrics(path: Path) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Rows of iterations and rows of evaluations; of a step written twice (a resumed run) the later row counts."""
    try:
        table = pd.read_csv(path)
    except FileNotFoundError:
        raise Refused("metrics.csv is missing") from None
    except (OSError, ValueError) as error:  # pandas' errors are ValueErrors
        raise Refused(f"metrics.csv cannot be read: {' '.join(str(error).split())}") from None
    missing = [name for name in ("step", "reward/mean") if name not in table]
    if missing:
        raise Refused(f"metrics.csv has no column {missing[0]}")
    text = [name for name in table if not pd.api.types.is_numeric_dtype(table[name])]
    if text:
        raise Refused(f"metrics.csv: column {text[0]} holds something that is no number")
    evaluated = [name for name in table if name.startswith("eval/")]
    rows = table.replace([inf, -inf], nan).dropna(subset=["step"]).astype({"step": int})
    parts = []
    for part in (rows.dropna(subset=["reward/mean"]), rows.dropna(subset=evaluated, how="all")[["step", *evaluated]]):
        parts.append(part.drop_duplicates("step", keep="last").set_index("step").sort_index())
    if parts[0].empty:
        raise Refused("metrics.csv holds no iteration")
    return parts[0], parts[1] if evaluated else parts[1].iloc[:0]


def leaves(tree: Any, prefix: str = "") -> dict[str, Any]:
    """Nested settings as one level of dotted keys; a list is a leaf, an empty mapping has none."""
    if not isinstance(tree, dict):
        return {prefix[:-1]: json.dumps(tree) if isinstance(tree, list) else tree}
    return {k: v for key, child in tree.items() for k, v in leaves(child, f"{prefix}{key}.").items()}


def _own_folder_named(config: dict[str, Any]) -> dict[str, Any]:
    """The folder of a run, as its callbacks and loggers were told it, written as RUN wherever it stands in the config."""
    told = (config.get(key) for key in ("callbacks.record.folder", "logger.csv.save_dir", "logger.tensorboard.save_dir"))
    folder = next((value for value in told if isinstance(value, str) and value), None)
    if folder is None:
        return config
    return {key: value.replace(folder, "RUN") if isinstance(value, str) else value for key, value in config.items()}
