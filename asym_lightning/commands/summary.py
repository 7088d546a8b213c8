"""The summary of a training run: the contents of summary.json, and the table on the terminal."""

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf
from rich.console import Console
from rich.table import Table

from asym_lightning.metrics.throughput import TIMED_PHASES
from asym_lightning.runtime.run_folder import git_revision, versions

ENDS = 10  # iterations in the first and last means of a metric


def summarize(
    config: DictConfig,
    history: Sequence[dict[str, float]],
    evaluation: Mapping[str, Mapping[str, float]],
    *,
    status: str,
    wall_seconds: float,
) -> dict[str, Any]:
    """Return the contents of summary.json.

    Args:
        history: the metrics of each iteration.
        evaluation: the metrics of the evaluation before and after training; empty without one.
        status: ``done``, ``interrupted`` or ``failed``.
    """
    phases = [phase for phase in TIMED_PHASES if phase != "sleep"]
    if any("time/sleep" in row for row in history):
        phases = list(TIMED_PHASES)
    phases.append("iteration")
    tokens = sum(row["throughput/tokens_per_s"] * row["time/iteration"] for row in history)
    gaps = (row.get("engine/logprob_gap_max", 0.0) for row in history)
    return {
        "status": status,
        "algorithm": config.algo.name,
        "seed": config.seed,
        "iterations": len(history),
        "wall_seconds": wall_seconds,
        "seconds_by_phase": {
            phase: sum(row.get(f"time/{phase}", 0.0) for row in history) for phase in phases
        },
        "generated_tokens": round(tokens),
        "reward": _ends(history, "reward/mean"),
        "entropy": _ends(history, "entropy/policy"),
        "solved_none": _ends(history, "solved/none"),
        "solved_mixed": _ends(history, "solved/mixed"),
        "logprob_gap_max": max(gaps, default=None),
        "evaluation": evaluation,
        "git_revision": git_revision(),
        "versions": versions(),
        "config": OmegaConf.to_container(config, resolve=True),
    }


def _ends(history: Sequence[dict[str, float]], name: str) -> dict[str, float | None]:
    """The means of a metric over the first and the last iterations that have it."""
    values = [row[name] for row in history if name in row]
    return {"first": _mean(values[:ENDS]), "last": _mean(values[-ENDS:])}


def _mean(values: Sequence[float]) -> float | None:
    return sum(values) / len(values) if values else None


def finish_wandb(status: str) -> None:
    """Close a run of Weights & Biases, so that the next run of a sweep does not write to it."""
    wandb = sys.modules.get("wandb")
    if wandb is not None and wandb.run is not None:
        wandb.finish(exit_code=0 if status == "done" else 1)


def show(summary: dict[str, Any], folder: Path) -> None:
    """Print the results, the time of each phase, and where to look further."""
    console = Console()
    console.print(_results_table(summary))
    seconds = "  ".join(f"{k} {v:.1f}" for k, v in summary["seconds_by_phase"].items())
    console.print(f"seconds: {seconds}  all {summary['wall_seconds']:.1f}", soft_wrap=True)
    if summary["iterations"] and not summary["solved_mixed"]["last"]:
        console.print(
            "no group had a signal in the last iterations: "
            "every prompt's rollouts all got the same reward",
            soft_wrap=True,
        )
    logs = Path("logs").resolve()
    board = logs if logs in folder.resolve().parents else folder
    places: dict[str, Any] = {"run directory": folder}
    # A run that was interrupted at once has no policy.
    if (folder / "policy").is_dir():
        places["policy"] = folder / "policy"
    places["TensorBoard"] = f"{sys.executable} -m tensorboard.main --logdir {board}"
    for name, place in places.items():
        console.print(f"{name + ':':15}{place}", highlight=False, soft_wrap=True)


def _results_table(summary: dict[str, Any]) -> Table:
    title = f"{summary['algorithm']}, seed {summary['seed']}: {summary['iterations']} iterations"
    table = Table(title=f"{title}, {summary['status']}")
    for column in ("", "before", "after"):
        table.add_column(column, justify="left" if not column else "right")
    for label, key in (
        ("training reward (mean of 10)", "reward"),
        ("policy entropy (nats)", "entropy"),
        ("prompts with none solved", "solved_none"),
    ):
        table.add_row(label, _number(summary[key]["first"]), _number(summary[key]["last"]))
    before, after = (summary["evaluation"].get(k, {}) for k in ("before", "after"))
    for name in before or after:
        _, problem_set, metric = name.split("/", 2)
        if "/" in metric:  # lengths and kinds are only in the file
            continue
        label = f"{'held-out' if problem_set == 'heldout' else problem_set} {metric}"
        table.add_row(label, _number(before.get(name)), _number(after.get(name)))
    return table


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"
