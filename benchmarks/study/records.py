"""A row of numbers for each run: the source of the study's tables and figures.

Nothing else of a run is kept.
"""

from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from asym_lightning.analysis.measures import value
from asym_lightning.analysis.runs import ComparisonError, Run, read_runs
from benchmarks.study.plan import Part

SETTINGS = {
    "learning_rate": "policy.optimizer.learning_rate",
    "beta_pos": "algo.advantage.beta_pos",
    "beta_neg": "algo.advantage.beta_neg",
    "coefficient": "algo.modulation.entropy_bonus.coef",
    "equal_scale": "algo.equal_scale",
    "degenerate_groups": "algo.advantage.degenerate_groups",
    "group_size": "rollout.group_size",
    "prompts_per_mini_batch": "policy.prompts_per_mini_batch",
}
EDGES = ("0.00", "0.25", "0.50", "0.75")  # lower ends of the quarters of the group's accuracy
CENTRES = [float(edge) + 0.125 for edge in EDGES]
# Means of the last ten iterations.
LAST = {"reward": "reward/mean", "entropy": "entropy/policy", "unsolved": "solved/none"}
# Means over all iterations.
WHOLE = {
    **{"gain_positive": "logprob_gain/positive", "gain_negative": "logprob_gain/negative"},
    **{f"covariance_{edge}": f"covariance/p_{edge}" for edge in EDGES},
}
# The ledger's sums at the end.
TOTAL = {
    f"{way}_{side}": f"ledger/total_{way}_{side}"
    for way in ("predicted", "measured")
    for side in ("positive", "negative")
}
# The final evaluation.
FINAL = {
    **{f"pass@{k}": f"eval/heldout/pass@{k}" for k in (1, 2, 4, 8, 16, 32, 64)},
    "distinct_correct": "eval/heldout/distinct_correct",
}
KEY = ["part", "method", *SETTINGS, "seed"]


def collect(parts: Sequence[Part], folder: Path) -> tuple[pd.DataFrame, list[str]]:
    """The rows of the finished runs of ``parts``, and a line for each unusable run.

    The runs are under ``folder``.
    """
    rows, said = [], []
    for part in parts:
        if not (folder / part.name).is_dir():
            continue
        try:
            runs, left_out = read_runs([folder / part.name])
        except ComparisonError as error:
            said.append(f"{part.name}: {error}")
            continue
        rows += [row(part, run) for run in runs]
        said += [f"{out.folder}: {out.reason}" for out in left_out]
    return tidy(pd.DataFrame(rows)), said


def row(part: Part, run: Run) -> dict[str, object]:
    """The numbers kept of a run."""
    found: dict[str, object] = {
        "part": part.name,
        "method": run.algorithm,
        "seed": run.seed,
        "iterations": run.length,
    }
    found |= {name: run.config.get(key) for name, key in SETTINGS.items()}
    found |= {name: value(run, metric, run.length) for name, metric in LAST.items()}
    found |= {
        name: run.train[metric].mean() for name, metric in WHOLE.items() if metric in run.train
    }
    found |= {
        name: run.train[metric].dropna().iloc[-1]
        for name, metric in TOTAL.items()
        if metric in run.train
    }
    found |= {name: run.after.get(metric) for name, metric in FINAL.items()}
    found["tokens"] = round(
        float((run.train["throughput/tokens_per_s"] * run.train["time/iteration"]).sum())
    )
    return found | {"seconds": run.wall_seconds, "revision": (run.git_revision or "")[:12]}


def tidy(rows: pd.DataFrame) -> pd.DataFrame:
    """Sorted, one row per run (of two the later), with what is derived."""
    if rows.empty:
        return rows
    table = (
        rows.drop_duplicates(KEY, keep="last")
        .sort_values(KEY, na_position="first")
        .reset_index(drop=True)
    )
    return table.assign(solved=1 - table["unsolved"])


def load(path: Path) -> pd.DataFrame:
    """The rows of an earlier study; none where there is no file."""
    return pd.read_csv(path) if path.exists() else pd.DataFrame()


def save(rows: pd.DataFrame, path: Path) -> None:
    rows.drop(columns="solved").to_csv(path, index=False, float_format="%.6g")
