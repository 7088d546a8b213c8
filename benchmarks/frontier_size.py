"""How often two equal methods get different frontiers: `python -m benchmarks.frontier_size`.

Both methods get the points of one, and seeds with the noise of the study's runs (its covariance
over seeds, with the off-diagonal halved because it comes from few seeds, and equal for both
methods). Beside the verdicts stand those of Student's intervals at single rewards.
"""

import argparse
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from asym_lightning.analysis.arms import Arm
from asym_lightning.analysis.frontier import Gap, frontiers, gaps
from asym_lightning.analysis.statistics import Verdict
from asym_lightning.metrics.bootstrap import Array
from benchmarks.study.judge import by_rate
from benchmarks.study.plan import ROOT
from benchmarks.study.records import load

PAIRS = (
    ("frontier", "grpo", "asymgrpo"),
    ("frontier", "reinforce", "pos_only"),
    ("chain", "grpo", "asymgrpo"),
)
MEASURES = ("pass@8", "entropy")


def noise(points: Array) -> Array:
    """Covariance of [methods, settings, (reward, y)] over seeds, with exchangeable methods.

    ``points`` is [seeds, ...].
    """
    flat = points.reshape(len(points), -1)
    found = np.cov(flat, rowvar=False)
    found = (found + np.diag(np.diag(found))) / 2
    swapped = np.roll(np.arange(len(found)), len(found) // 2)
    return (found + found[np.ix_(swapped, swapped)]) / 2


def null_gaps(points: Array, seeds: int, trials: int) -> Iterator[Gap]:
    """Gaps between two methods with the mean points of the first."""
    settings = points.shape[2]
    arms = [Arm(f"{name} {i}", name, {"rate": i}, {}) for name in "ab" for i in range(settings)]
    centre = np.concatenate([points[:, 0].mean(axis=0)] * 2)
    drawn = np.random.default_rng(0).multivariate_normal(
        np.zeros(centre.size), noise(points), (trials, seeds), check_valid="ignore"
    )
    for cube in centre + drawn.reshape(trials, seeds, 2 * settings, 2):
        columns = zip(arms, cube.transpose(1, 2, 0), strict=True)
        values = {
            arm.label: {
                name: dict(enumerate(row))
                for name, row in zip(("reward/mean", "y"), rows, strict=True)
            }
            for arm, rows in columns
        }
        yield gaps(frontiers(arms, values, "y"), values, 0)[0]


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.frontier_size", description=__doc__)
    parser.add_argument(
        "--runs",
        type=Path,
        default=ROOT / "docs" / "results" / "study" / "runs.csv",
        help="the study's numbers",
    )
    parser.add_argument(
        "--trials",
        type=int,
        default=1000,
        help="drawn comparisons of each kind (default: 1000, half an hour)",
    )
    given = parser.parse_args()
    rows = load(given.runs)
    print(
        "| noise of | measure | seeds | mean gap | any third | thirds cross | any single reward | "
        "single rewards cross |"
    )
    print("|" + "---|" * 8)
    for part, *methods in PAIRS:
        for measure in MEASURES:
            tables = [
                [
                    by_rate(rows, {"part": part, "method": m}, column)
                    for column in ("reward", measure)
                ]
                for m in methods
            ]
            points = np.array(tables, dtype=np.float64).transpose(2, 0, 3, 1)
            for seeds in (3, 5, 10):
                said = np.array([list(told(gap)) for gap in null_gaps(points, seeds, given.trials)])
                words = " | ".join(f"{share:.1%}" for share in said.mean(axis=0))
                print(
                    f"| {part}, {' and '.join(methods)} | {measure} | {seeds} | {words} |",
                    flush=True,
                )


def told(gap: Gap) -> tuple[bool, bool, bool, bool, bool]:
    assert gap.interval is not None
    over, under = bool((gap.interval[0] > 0).any()), bool((gap.interval[1] < 0).any())
    return (
        gap.verdict is not Verdict.NOT_SEPARATED,
        bool(gap.above or gap.below),
        bool(gap.above and gap.below),
        over or under,
        over and under,
    )


if __name__ == "__main__":
    main()
