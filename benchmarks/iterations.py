"""Seconds of an iteration in two checkouts: `python benchmarks/iterations.py BEFORE AFTER`.

Each pair runs the default run in both at once, each on a core of its own with one thread, so that
both see the same machine, and then again with the cores exchanged; its ratio after / before is the
geometric mean of the two. The seconds of a run are the median of `time/iteration` without the first
ten iterations. Printed are the geometric mean over pairs and its 95% interval (Student's t on their
logs). Six pairs take about 15 minutes on two cores.
"""

import csv
import math
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from scipy import stats

from startup import arguments

ITERATIONS, WARM_UP = 60, 10


def start(checkout: Path, folder: Path, core: int) -> subprocess.Popen[bytes]:
    """Start the default run of a checkout on a core."""
    command = [
        *(sys.executable, "train.py", "seed=1", f"trainer.max_epochs={ITERATIONS}"),
        *("callbacks.evaluation.problems=0", f"hydra.run.dir={folder}"),
    ]
    return subprocess.Popen(
        command,
        cwd=checkout,
        env=os.environ | {"PYTHONPATH": str(checkout), "OMP_NUM_THREADS": "1"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        preexec_fn=lambda: os.sched_setaffinity(0, {core}),
    )


def seconds(folder: Path) -> float:
    """The median seconds of an iteration of a run."""
    [path] = folder.rglob("metrics.csv")
    with path.open(newline="") as file:
        taken = [
            float(row["time/iteration"]) for row in csv.DictReader(file) if row["time/iteration"]
        ]
    return statistics.median(taken[WARM_UP:])


def side_by_side(checkouts: Sequence[Path], swap: bool) -> tuple[float, float]:
    """The seconds of an iteration in both checkouts, side by side."""
    cores = sorted(os.sched_getaffinity(0))[:2]
    with tempfile.TemporaryDirectory() as place:
        folders = [Path(place) / str(i) for i in range(2)]
        running = [
            start(checkout, folder, cores[side ^ swap])
            for side, (checkout, folder) in enumerate(zip(checkouts, folders, strict=True))
        ]
        statuses = [run.wait() for run in running]
        if any(statuses):
            raise SystemExit("a run failed: start train.py in its checkout")
        before, after = map(seconds, folders)
    return before, after


def main() -> None:
    checkouts, pairs = arguments(__doc__, pairs=6)
    logs = []
    for number in range(pairs):
        ratios = []
        for swap in (False, True):
            before, after = side_by_side(checkouts, swap)
            ratios.append(math.log(after / before))
            print(f"{before:.4f} s, {after:.4f} s", end="; ", flush=True)
        logs.append(statistics.fmean(ratios))
        print(f"pair {number + 1}: {math.exp(logs[-1]):.4f}", flush=True)
    mean = statistics.fmean(logs)
    half = stats.t.ppf(0.975, len(logs) - 1) * statistics.stdev(logs) / math.sqrt(len(logs))
    low, high = math.exp(mean - half), math.exp(mean + half)
    print(f"ratio {math.exp(mean):.4f}, 95% interval {low:.4f} to {high:.4f}, {len(logs)} pairs")


if __name__ == "__main__":
    main()
