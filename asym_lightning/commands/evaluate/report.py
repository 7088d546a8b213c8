"""Results of an evaluation: metrics of completions, and tables on the terminal."""

from collections.abc import Mapping, Sequence
from itertools import groupby
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from asym_lightning.metrics.evaluation import names, problem_values, with_intervals
from asym_lightning.types import Kind, Verdict


def benchmark_result(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return the number of problems and samples of a benchmark, and each metric.

    Each metric has its mean over problems and a 95% bootstrap interval.

    Args:
        rows: the saved completions, at least one, ordered by problem; equally many per problem.
    """
    values = []
    for _, completions in groupby(rows, key=lambda row: row["number"]):
        group = list(completions)
        verdicts = [Verdict(row["reward"], Kind(row["kind"]), row["answer"]) for row in group]
        lengths = [row["tokens"] for row in group]
        truncated = [row["truncated"] for row in group]
        values.append(problem_values(verdicts, lengths, truncated))
    samples = len(rows) // len(values)
    return {
        "problems": len(values),
        "samples": samples,
        "metrics": with_intervals(names(samples), np.array(values)),
    }


SCORES = ("benchmark", "problems", "n", "avg@n", "interval", "pass@n", "maj@n", "distinct correct")
DETAILS = ("benchmark", "pass@k", "tokens", "outcomes")


def show(results: Mapping[str, Mapping[str, Any]], title: str) -> None:
    """Print a table of scores, and a table of pass@k, lengths and outcomes."""
    scores = Table(title=title, caption="interval: 95%, by bootstrap over problems")
    details = Table()
    for column in SCORES:
        scores.add_column(column, justify="left" if column == "benchmark" else "right")
    for column in DETAILS:
        details.add_column(column, justify="right" if column == "tokens" else "left")
    for name, of_benchmark in results.items():
        metrics, n = of_benchmark["metrics"], of_benchmark["samples"]
        mean = {key: value["mean"] for key, value in metrics.items()}
        interval = "{low:.3f} to {high:.3f}".format(**metrics[f"avg@{n}"])
        scores.add_row(
            name,
            str(of_benchmark["problems"]),
            str(n),
            f"{mean[f'avg@{n}']:.3f}",
            interval,
            f"{mean[f'pass@{n}']:.3f}",
            f"{mean[f'maj@{n}']:.3f}",
            f"{mean['distinct_correct']:.2f}",
        )
        pass_at_k = {key[5:]: value for key, value in mean.items() if key.startswith("pass@")}
        curve = ", ".join(f"{k}: {value:.3f}" for k, value in pass_at_k.items())
        shares = {kind: mean[f"verify/{kind}"] for kind in Kind if mean[f"verify/{kind}"]}
        outcomes = ", ".join(f"{kind} {share:.3f}" for kind, share in shares.items())
        details.add_row(name, curve, f"{mean['length/mean']:.1f}", outcomes)
    console = Console()
    console.print(scores)
    console.print(details)
