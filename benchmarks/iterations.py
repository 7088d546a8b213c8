"""Seconds of an iteration in two checkouts: `python benchmarks/iterations.py BEFORE AFTER`.

Each pair runs the default run in both, one behind the other; the order changes with each pair. The
seconds of a run are the median of `time/iteration` without the first ten iterations. Printed are
the geometric mean of the ratios after / before, and its 95% interval (Student's t on their logs).
Six pairs take about ten minutes on two cores.
"""

import csv
import math
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from scipy import stats

from startup import arguments

ITERATIONS, WARM_UP = 60, 10


def seconds(checkout: Path, folder: Path) -> float:
    """The median seconds of an iteration of the default run of a checkout."""
    command = [
        *(sys.executable, "train.py", "seed=1", f"trainer.max_epochs={ITERATIONS}"),
        *("callbacks.evaluation.problems=0", f"hydra.run.dir={folder}"),
    ]
    environment = os.environ | {"PYTHONPATH": str(checkout)}
    subprocess.run(command, cwd=checkout, env=environment, capture_output=True, check=True)
    [path] = folder.rglob("metrics.csv")
    with path.open(newline="") as file:
        taken = [
            float(row["time/iteration"]) for row in csv.DictReader(file) if row["time/iteration"]
        ]
    return statistics.median(taken[WARM_UP:])


def main() -> None:
    checkouts, pairs = arguments(__doc__, pairs=6)
    logs = []
    for pair in range(pairs):
        taken = [0.0, 0.0]
        for side in (0, 1) if pair % 2 else (1, 0):
            with tempfile.TemporaryDirectory() as folder:
                taken[side] = seconds(checkouts[side], Path(folder) / "run")
        logs.append(math.log(taken[1] / taken[0]))
        print(
            f"pair {pair + 1}: {taken[0]:.4f} s, {taken[1]:.4f} s, {math.exp(logs[-1]):.4f}",
            flush=True,
        )
    mean = statistics.fmean(logs)
    half = stats.t.ppf(0.975, len(logs) - 1) * statistics.stdev(logs) / math.sqrt(len(logs))
    low, high = math.exp(mean - half), math.exp(mean + half)
    print(f"ratio {math.exp(mean):.4f}, 95% interval {low:.4f} to {high:.4f}, {len(logs)} pairs")


if __name__ == "__main__":
    main()
