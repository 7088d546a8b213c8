"""Find and read run folders; a run that cannot be used is listed with the reason."""

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from math import inf, isfinite, nan
from pathlib import Path
from typing import Any

import pandas as pd

from asym_lightning.runtime.moved import with_new_targets

# Key of summary.json -> its type.
REQUIRED_KEYS = {"status": str, "algorithm": str, "seed": int, "iterations": int, "config": dict}


class ComparisonError(ValueError):
    """A comparison or a run that cannot be used.

    The message is one line: what is wrong, and what would be correct.
    """


@dataclass(frozen=True, eq=False)
class Run:
    """A run as its folder records it.

    ``config`` has an entry per leaf of the resolved config (dotted keys), with the run's own folder
    written as ``RUN``. ``train`` has a row per iteration, ``evals`` a row per evaluation; both are
    indexed by ``step``. An evaluation at step n comes after n iterations. ``before`` and ``after``
    are the evaluations before and after training.
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
        """Iterations since the very first.

        The folder of a resumed run may hold only the later ones.
        """
        return int(self.train.index[-1]) + 1


@dataclass(frozen=True)
class LeftOut:
    """A folder that is not part of the comparison, and the reason."""

    folder: Path
    reason: str


def read_runs(paths: Sequence[Path], unfinished: bool = False) -> tuple[list[Run], list[LeftOut]]:
    """Read the runs at and below ``paths``, sorted by folder; list the folders left out.

    Args:
        unfinished: also take runs that were interrupted or failed.

    Raises:
        ComparisonError: a path does not exist, or no run can be used.
    """
    folders, left_out = find(paths)
    runs = []
    for folder in folders:
        try:
            run = read(folder)
        except ComparisonError as error:
            left_out.append(LeftOut(folder, str(error)))
            continue
        if run.status == "done" or unfinished:
            runs.append(run)
            continue
        error_text = f" ({run.error})" if run.error else ""
        reason = (
            f"status {run.status}{error_text} after {run.length} iterations; "
            "--unfinished takes it in"
        )
        left_out.append(LeftOut(folder, reason))
    if not runs:
        message = (
            "no finished run (a folder with summary.json and metrics.csv) in "
            f"{', '.join(map(str, paths))}"
        )
        if left_out:
            first = left_out[0]
            message += f"; the first of {len(left_out)} left out: {first.folder}: {first.reason}"
        raise ComparisonError(message)
    return runs, left_out


def find(paths: Sequence[Path]) -> tuple[list[Path], list[LeftOut]]:
    """Find the run folders at and below ``paths``, each once.

    A folder that a run started and did not close has no summary.json; it is left out.

    Raises:
        ComparisonError: a path does not exist.
    """
    run_folders: dict[Path, Path] = {}
    left_out: dict[Path, LeftOut] = {}
    for path in paths:
        if not path.exists():
            raise ComparisonError(f"{path}: there is no such folder")
        if not path.is_dir():
            left_out[path] = LeftOut(path, "a file, not a folder")
            continue
        any_run = False
        for place, folders, files in os.walk(path):
            folder = Path(place)
            if "summary.json" in files:
                run_folders.setdefault(folder.resolve(), folder)
            elif "metrics.csv" in files or ".hydra" in folders:
                left_out[folder.resolve()] = LeftOut(
                    folder, "no summary.json: it is still running, or was killed"
                )
            else:
                folders.sort()
                continue
            # A run folder holds no further runs, so the walk stops here.
            folders.clear()
            any_run = True
        if not any_run:
            left_out[path] = LeftOut(path, "no run in it")
    return sorted(run_folders.values()), list(left_out.values())


def read(folder: Path) -> Run:
    """Read a run folder.

    Raises:
        ComparisonError: a file is missing, broken or shorter than the summary says.
    """
    summary = _read_summary(folder / "summary.json")
    status, error_text = summary["status"], summary.get("error")
    try:
        train, evals = _metrics(folder / "metrics.csv")
    except ComparisonError as error:
        if status == "done":
            raise
        # The error of a run that failed before its first iteration says more.
        raise ComparisonError(f"status {status}: {error_text or error}") from None
    if len(train) < summary["iterations"]:
        raise ComparisonError(
            f"metrics.csv: a reward in {len(train)} of {summary['iterations']} iterations only"
        )
    evaluation = summary.get("evaluation") or {}
    return Run(
        folder=folder,
        algorithm=summary["algorithm"],
        seed=summary["seed"],
        status=status,
        error=error_text,
        config=_without_folder(leaves(with_new_targets(summary["config"]))),
        versions=summary.get("versions") or {},
        git_revision=summary.get("git_revision"),
        before=_numbers(evaluation.get("before")),
        after=_numbers(evaluation.get("after")),
        wall_seconds=_numbers(summary).get("wall_seconds"),
        train=train,
        evals=evals,
    )


def _read_summary(path: Path) -> dict[str, Any]:
    """Read summary.json and check its keys; the caller adds the run's folder to a refusal."""
    try:
        summary = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ComparisonError(
            f"summary.json cannot be read: {' '.join(str(error).split())}"
        ) from None
    if not isinstance(summary, dict):
        raise ComparisonError("summary.json is not a JSON object")
    for key, kind in REQUIRED_KEYS.items():
        if not isinstance(summary.get(key), kind):
            raise ComparisonError(
                f"summary.json: '{key}' is missing or not of type {kind.__name__}"
            )
    return summary


def _numbers(mapping: Any) -> dict[str, float]:
    """The finite numbers of a mapping; empty if it is not a mapping."""
    if not isinstance(mapping, dict):
        return {}
    return {
        key: float(value)
        for key, value in mapping.items()
        if isinstance(value, int | float) and not isinstance(value, bool) and isfinite(value)
    }


def _metrics(path: Path) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Read the rows of iterations and the rows of evaluations.

    A resumed run may have written a step twice; the later row counts.
    """
    try:
        table = pd.read_csv(path)
    except FileNotFoundError:
        raise ComparisonError("metrics.csv is missing") from None
    except (OSError, ValueError) as error:  # pandas' errors are ValueErrors
        raise ComparisonError(
            f"metrics.csv cannot be read: {' '.join(str(error).split())}"
        ) from None
    missing = [name for name in ("step", "reward/mean") if name not in table]
    if missing:
        raise ComparisonError(f"metrics.csv has no column {missing[0]}")
    text = [name for name in table if not pd.api.types.is_numeric_dtype(table[name])]
    if text:
        raise ComparisonError(f"metrics.csv: column {text[0]} holds something that is no number")
    evaluated = [name for name in table if name.startswith("eval/")]
    rows = table.replace([inf, -inf], nan).dropna(subset=["step"]).astype({"step": int})
    train = _by_step(rows.dropna(subset=["reward/mean"]))
    if train.empty:
        raise ComparisonError("metrics.csv holds no iteration")
    evals = _by_step(rows.dropna(subset=evaluated, how="all")[["step", *evaluated]])
    return train, evals if evaluated else evals.iloc[:0]


def _by_step(rows: pd.DataFrame) -> pd.DataFrame:
    return rows.drop_duplicates("step", keep="last").set_index("step").sort_index()


def leaves(tree: Any, prefix: str = "") -> dict[str, Any]:
    """Flatten nested settings to dotted keys; a list is a leaf, an empty mapping has no leaves."""
    if not isinstance(tree, dict):
        return {prefix[:-1]: json.dumps(tree) if isinstance(tree, list) else tree}
    flat: dict[str, Any] = {}
    for key, child in tree.items():
        flat |= leaves(child, f"{prefix}{key}.")
    return flat


def _without_folder(config: dict[str, Any]) -> dict[str, Any]:
    """Write RUN in place of the run's own folder, which its callbacks and loggers have."""
    keys = ("callbacks.record.folder", "logger.csv.save_dir", "logger.tensorboard.save_dir")
    folders = [config.get(key) for key in keys]
    folder = next((value for value in folders if isinstance(value, str) and value), None)
    if folder is None:
        return config
    return {
        key: value.replace(folder, "RUN") if isinstance(value, str) else value
        for key, value in config.items()
    }
