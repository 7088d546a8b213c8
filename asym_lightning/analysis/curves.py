"""Figures over the iterations of training: curves with bands over seeds, entropy against reward."""

import warnings
from collections.abc import Callable

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from asym_lightning.analysis.arms import Arm
from asym_lightning.analysis.canvas import Canvas, Picture, file_name, shaded, text
from asym_lightning.analysis.comparison import Comparison
from asym_lightning.analysis.measures import WINDOW
from asym_lightning.metrics.bootstrap import Array, bootstrap

# Points drawn per curve; more cannot be seen.
POINTS = 200
BAND = "Line: mean over seeds; band: 95% bootstrap interval of it over seeds."
# Metric -> (file name, title, caption) of its figure.
TRAINING = {
    "reward/mean": ("reward", "Reward", "Mean reward of the iteration's rollouts."),
    "solved/none": (
        "unsolved",
        "Unsolved prompts",
        "Share of the prompts that no rollout of the group solved.",
    ),
    "length/mean": ("length", "Completion length", "Mean length in tokens."),
}
ENTROPY = {
    "entropy/policy": ("entropy", "Policy entropy", "Nats per token, over all rollouts."),
    "entropy/positive": (
        "entropy-right",
        "Entropy of right rollouts",
        "Nats per token, over the rollouts that were right.",
    ),
    "entropy/negative": (
        "entropy-wrong",
        "Entropy of wrong rollouts",
        "Nats per token, over the rollouts that were wrong.",
    ),
}
PREDICTED = (
    "Change of entropy that the first-order theory says {} rollouts contributed, nats per token, "
    "since the start."
)
MEASURED = (
    "Change of entropy that the updates made on tokens of {} rollouts, nats per token, "
    "since the start."
)
LEDGER = {
    "ledger/total_predicted_positive": (
        "ledger-predicted-right",
        "Entropy ledger: predicted, right rollouts",
        PREDICTED.format("right"),
    ),
    "ledger/total_predicted_negative": (
        "ledger-predicted-wrong",
        "Entropy ledger: predicted, wrong rollouts",
        PREDICTED.format("wrong"),
    ),
    "ledger/total_measured_positive": (
        "ledger-measured-right",
        "Entropy ledger: measured, right rollouts",
        MEASURED.format("right"),
    ),
    "ledger/total_measured_negative": (
        "ledger-measured-wrong",
        "Entropy ledger: measured, wrong rollouts",
        MEASURED.format("wrong"),
    ),
}


def training(comparison: Comparison, canvas: Canvas) -> list[Picture]:
    return _over_iterations(comparison, canvas, TRAINING)


def entropy(comparison: Comparison, canvas: Canvas) -> list[Picture]:
    return _over_iterations(comparison, canvas, ENTROPY)


def ledger(comparison: Comparison, canvas: Canvas) -> list[Picture]:
    """Draw the cumulated entropy ledger: one picture per column, with all methods side by side."""
    return _over_iterations(comparison, canvas, LEDGER, window=1, label="change of entropy (nats)")


def _over_iterations(
    comparison: Comparison,
    canvas: Canvas,
    figures: dict[str, tuple[str, str, str]],
    *,
    window: int = WINDOW,
    label: str = "",
) -> list[Picture]:
    """Draw the curve of each metric in ``figures`` that any run has.

    Args:
        figures: metric -> (file name, title, caption).
        window: iterations of the running mean.
        label: of the y axis; empty: the title.
    """
    pictures = []
    for name, (file, title, caption) in figures.items():
        lines = {
            arm.label: curves(arm, name, comparison.cut, window=window) for arm in comparison.arms
        }
        arms = [arm for arm in comparison.arms if lines[arm.label] is not None]
        if not arms:
            continue
        smoothing = f" Running mean of {window} iterations." if window > 1 else ""
        pictures.append(
            canvas.draw(
                file,
                title,
                f"{caption}{smoothing} {BAND}",
                arms=arms,
                plot=_curve_plot(canvas, lines),
                x="iteration",
                y=label or title.lower(),
            )
        )
    return pictures


def _curve_plot(
    canvas: Canvas, lines: dict[str, tuple[Array, Array] | None]
) -> Callable[[Axes, Arm], None]:
    """Return a function that draws the mean of an arm's ``lines`` with its band."""

    def plot(axis: Axes, arm: Arm) -> None:
        mean_line(axis, canvas, arm, line=lines[arm.label])  # type: ignore[arg-type]

    return plot


def mean_line(
    axis: Axes, canvas: Canvas, arm: Arm, *, line: tuple[Array, Array], marked: bool = False
) -> None:
    """Draw the mean of an arm's line (x, [seeds, x]) over seeds, with its band."""
    x, rows = line
    shaded(axis, x, rows.mean(axis=0), band=_band(rows), look=canvas.look(arm), marked=marked)


def evaluations(comparison: Comparison, canvas: Canvas) -> list[Picture]:
    """Draw each held-out measure over training.

    Measures that were evaluated before and after training only are drawn if they are main measures.
    """
    pictures = []
    for measure in comparison.measures:
        tables = {
            arm.label: _evaluated(arm, measure.name, comparison.cut) for arm in comparison.arms
        }
        fewest = 2 if measure.name in comparison.main else 3
        arms = [arm for arm in comparison.arms if len(tables[arm.label].columns) >= fewest]
        if not arms:
            continue

        def plot(axis: Axes, arm: Arm, tables: dict[str, pd.DataFrame] = tables) -> None:
            table = tables[arm.label]
            line = table.columns.to_numpy(dtype=np.float64), table.to_numpy(dtype=np.float64)
            mean_line(axis, canvas, arm, line=line, marked=True)

        pictures.append(
            canvas.draw(
                f"eval-{file_name(measure.label)}",
                measure.label[0].upper() + measure.label[1:],
                f"Points: evaluations, mean over seeds; {BAND.partition('; ')[2]}",
                arms=arms,
                plot=plot,
                x="iterations of training",
                y=text(measure.label),
            )
        )
    return pictures


def entropy_against_reward(comparison: Comparison, canvas: Canvas) -> list[Picture]:
    """Draw the path of each arm in the plane of reward and entropy."""
    x = {arm.label: curves(arm, "reward/mean", comparison.cut) for arm in comparison.arms}
    y = {arm.label: curves(arm, "entropy/policy", comparison.cut) for arm in comparison.arms}
    arms = [arm for arm in comparison.arms if x[arm.label] is not None and y[arm.label] is not None]
    if not arms:
        return []

    def plot(axis: Axes, arm: Arm) -> None:
        (_, rewards), (_, entropies) = x[arm.label], y[arm.label]  # type: ignore[misc]
        look = canvas.look(arm)
        path = {**look, "marker": None}
        ends = {"linestyle": "none", "color": look["color"], "marker": look["marker"]}
        axis.plot(rewards.mean(axis=0), entropies.mean(axis=0), **path)  # type: ignore[arg-type]
        axis.plot(rewards[:, -1], entropies[:, -1], markersize=4.5, **ends)  # type: ignore[arg-type]

    caption = (
        f"Line: mean over seeds, running mean of {WINDOW} iterations, from first to last; "
        "points: where each seed ended."
    )
    return [
        canvas.draw(
            "entropy-against-reward",
            "Entropy against reward",
            caption,
            arms=arms,
            plot=plot,
            x="reward",
            y="policy entropy (nats)",
        )
    ]


def curves(arm: Arm, name: str, cut: int, window: int = WINDOW) -> tuple[Array, Array] | None:
    """Return the steps and one smoothed line per seed of the first ``cut`` iterations.

    At most ``POINTS`` steps are kept. None if no run has the metric ``name``.
    """
    runs = [run for run in arm.runs.values() if name in run.train and run.train[name].notna().any()]
    if not runs:
        return None
    lines = []
    for run in runs:
        smooth = run.train[name].reindex(range(cut)).rolling(window, min_periods=1).mean()
        lines.append(smooth.to_numpy(dtype=np.float64))
    steps = np.unique(np.linspace(0, cut - 1, min(cut, POINTS)).round().astype(int))
    return steps.astype(np.float64), np.stack(lines)[:, steps]


def _evaluated(arm: Arm, name: str, cut: int) -> pd.DataFrame:
    """A table of seeds by the iterations at which every seed was evaluated."""
    columns = [run.evals[name] for run in arm.runs.values() if name in run.evals]
    if not columns:
        return pd.DataFrame()
    table = pd.concat(columns, axis=1, join="inner").dropna().T
    return table[[step for step in table.columns if step <= cut]]


def _band(lines: Array) -> tuple[Array, Array] | None:
    if len(lines) < 2:
        return None
    with warnings.catch_warnings():
        # An iteration that no seed has stays a gap in the line.
        warnings.simplefilter("ignore", RuntimeWarning)
        return bootstrap(np.mean, lines.T)
