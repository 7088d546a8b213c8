"""Results of an evaluation: numbers from completions, a table on the terminal."""

from collections.abc import Mapping, Sequence
from itertools import groupby
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from asym_lightning.metrics.evaluation import names, problem_values, with_intervals
from asym_lightning.types import Kind, Verdict


def result(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The numbers of one benchmark from its completions, ordered by problem: counts, and each metric with its 95% interval."""
    values = []
    for _, of_problem in groupby(rows, key=lambda row: row["number"]):
        group = list(of_problem)
        verdicts = [Verdict(row["reward"], Kind(row["kind"]), row["answer"]) for row in group]
        values.append(problem_values(verdicts, [row["tokens"] for row in group], [row["truncated"] for row in group]))
    samples = len(rows) // len(values)
    return {"problems": len(values), "samples": samples, "metrics": with_intervals(names(samples), np.array(values))}


def show(results: Mapping[str, Mapping[str, Any]], title: str) -> None:
    """Print a table of scores, and one of pass@k, lengths and outcomes."""
    scores, more = Table(title=title, caption="interval: 95%, by bootstrap over problems"), Table()
    for column in ("benchmark", "problems", "n", "avg@n", "interval", "pass@n", "maj@n", "distinct right"):
        scores.add_column(column, justify="left" if column == "benchmark" else "right")
    for column in ("benchmark", "pass@k", "tokens", "outcomes"):
        more.add_column(column, justify="right" if column == "tokens" else "left")
    for name, found in results.items():
        metrics, n = found["metrics"], found["samples"]
        mean = {key: value["mean"] for key, value in metrics.items()}
        interval = "{low:.3f} to {high:.3f}".format(**metrics[f"avg@{n}"])
        three = [f"{mean[key]:.3f}" for key in (f"avg@{n}", f"pass@{n}", f"maj@{n}")]
        scores.add_row(name, str(found["problems"]), str(n), three[0], interval, *three[1:], f"{mean['distinct_correct']:.2f}")
        curve = ", ".join(f"{key[5:]}: {value:.3f}" for key, value in mean.items() if key.startswith("pass@"))
        kinds = ", ".join(f"{kind} {mean[f'verify/{kind}']:.3f}" for kind in Kind if mean[f"verify/{kind}"])
        more.add_row(name, curve, f"{mean['length/mean']:.1f}", kinds)
    console = Console()
    console.print(scores)
    console.print(more)
