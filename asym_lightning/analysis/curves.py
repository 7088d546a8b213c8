"""Figures over the iterations of training: curves with bands over seeds, entropy against reward, the entropy ledger."""

import warnings

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from asym_lightning.analysis.arms import Arm
from asym_lightning.analysis.canvas import Canvas, Picture, file_name, shaded, text
from asym_lightning.analysis.comparison import Comparison
from asym_lightning.analysis.measures import WINDOW
from asym_lightning.analysis.statistics import Array, band

POINTS = 200  # drawn per curve; more cannot be seen
BAND = "Line: mean over seeds; band: 95% bootstrap interval of it over seeds."
TRAINING = {
    "reward/mean": ("reward", "Reward", "Mean reward of the iteration's rollouts."),
    "solved/none": ("unsolved", "Unsolved prompts", "Share of the prompts that no rollout of the group solved."),
    "length/mean": ("length", "Completion length", "Mean length in tokens."),
}
ENTROPY = {
    "entropy/policy": ("entropy", "Policy entropy", "Nats per token, over all rollouts."),
    "entropy/positive": ("entropy-right", "Entropy of right rollouts", "Nats per token, over the rollouts that were right."),
    "entropy/negative": ("entropy-wrong", "Entropy of wrong rollouts", "Nats per token, over the rollouts that were wrong."),
}
PREDICTED = "Change of entropy that the first-order theory says {} rollouts contributed, nats per token, since the start."
MEASURED = "Change of entropy that the updates made on tokens of {} rollouts, nats per token, since the start."
LEDGER = {
    "ledger/total_predicted_positive": ("ledger-predicted-right", "Entropy ledger: predicted, right rollouts", PREDICTED.format("right")),
    "ledger/total_predicted_negative": ("ledger-predicted-wrong", "Entropy ledger: predicted, wrong rollouts", PREDICTED.format("wrong")),
    "ledger/total_measured_positive": ("ledger-measured-right", "Entropy ledger: measured, right rollouts", MEASURED.format("right")),
    "ledger/total_measured_negative": ("ledger-measured-wrong", "Entropy ledger: measured, wrong rollouts", MEASURED.format("wrong")),
}


def training(comparison: Comparison, canvas: Canvas) -> list[Picture]:
    return _over_iterations(comparison, canvas, TRAINING)


def entropy(comparison: Comparison, canvas: Canvas) -> list[Picture]:
    return _over_iterations(comparison, canvas, ENTROPY)


def ledger(comparison: Comparison, canvas: Canvas) -> list[Picture]:
    """The cumulated entropy ledger: one picture per column, so that methods lie side by side."""
    return _over_iterations(comparison, canvas, LEDGER, window=1, label="change of entropy (nats)")


def _over_iterations(
    comparison: Comparison, canvas: Canvas, wanted: dict[str, tuple[str, str, str]], window: int = WINDOW, label: str = ""
) -> list[Picture]:
    """The curves of ``wanted`` that any run has."""
    pictures = []
    for name, (file, title, caption) in wanted.items():
        found = {arm.label: curve for arm in comparison.arms if (curve := curves(arm, name, comparison.cut, window)) is not None}
        arms = [arm for arm in comparison.arms if arm.label in found]
        if not arms:
            continue

        def plot(axis: Axes, arm: Arm, found: dict[str, tuple[Array, Array]] = found) -> None:
            steps, lines = found[arm.label]
            shaded(axis, steps, lines.mean(axis=0), _band(lines), canvas.look(arm))

        about = f"{caption} Running mean of {window} iterations. {BAND}" if window > 1 else f"{caption} {BAND}"
        pictures.append(canvas.draw(file, title, about, arms, plot, "iteration", label or title.lower()))
    return pictures


def evaluations(comparison: Comparison, canvas: Canvas) -> list[Picture]:
    """Each held-out measure over training; where runs were evaluated before and after only, the main ones alone."""
    pictures = []
    for measure in comparison.measures:
        tables = {arm.label: _evaluated(arm, measure.name, comparison.cut) for arm in comparison.arms}
        fewest = 2 if measure.name in comparison.main else 3
        arms = [arm for arm in comparison.arms if len(tables[arm.label].columns) >= fewest]
        if not arms:
            continue

        def plot(axis: Axes, arm: Arm, tables: dict[str, pd.DataFrame] = tables) -> None:
            lines = tables[arm.label].to_numpy(dtype=np.float64)
            steps = tables[arm.label].columns.to_numpy(dtype=np.float64)
            shaded(axis, steps, lines.mean(axis=0), _band(lines), canvas.look(arm), marked=True)

        file = f"eval-{file_name(measure.label)}"
        caption = f"Points: evaluations, mean over seeds; {BAND.partition('; ')[2]}"
        title = measure.label[0].upper() + measure.label[1:]
        pictures.append(canvas.draw(file, title, caption, arms, plot, "iterations of training", text(measure.label)))
    return pictures


def entropy_against_reward(comparison: Comparison, canvas: Canvas) -> list[Picture]:
    """The way of each arm through the plane of reward and entropy."""
    x = {arm.label: curves(arm, "reward/mean", comparison.cut) for arm in comparison.arms}
    y = {arm.label: curves(arm, "entropy/policy", comparison.cut) for arm in comparison.arms}
    arms = [arm for arm in comparison.arms if x[arm.label] is not None and y[arm.label] is not None]
    if not arms:
        return []

    def plot(axis: Axes, arm: Arm) -> None:
        (_, rewards), (_, entropies) = x[arm.label], y[arm.label]  # type: ignore[misc]
        look = canvas.look(arm)
        axis.plot(rewards.mean(axis=0), entropies.mean(axis=0), **{**look, "marker": None})  # type: ignore[arg-type]
        axis.plot(rewards[:, -1], entropies[:, -1], linestyle="none", color=look["color"], marker=look["marker"], markersize=4.5)

    caption = f"Line: mean over seeds, running mean of {WINDOW} iterations, from first to last; points: where each seed ended."
    return [canvas.draw("entropy-against-reward", "Entropy against reward", caption, arms, plot, "reward", "policy entropy (nats)")]


def curves(arm: Arm, name: str, cut: int, window: int = WINDOW) -> tuple[Array, Array] | None:
    """(steps, one smoothed line per seed) of the first ``cut`` iterations, thinned to ``POINTS``; None where no run has ``name``."""
    runs = [run for run in arm.runs.values() if name in run.train and run.train[name].notna().any()]
    if not runs:
        return None
    smooth = [run.train[name].reindex(range(cut)).rolling(window, min_periods=1).mean().to_numpy(dtype=np.float64) for run in runs]
    at = np.unique(np.linspace(0, cut - 1, min(cut, POINTS)).round().astype(int))
    return at.astype(np.float64), np.stack(smooth)[:, at]


def _evaluated(arm: Arm, name: str, cut: int) -> pd.DataFrame:
    """Seeds by iterations at which every seed was evaluated."""
    columns = [run.evals[name] for run in arm.runs.values() if name in run.evals]
    if not columns:
        return pd.DataFrame()
    table = pd.concat(columns, axis=1, join="inner").dropna().T
    return table[[step for step in table.columns if step <= cut]]


def _band(lines: Array) -> tuple[Array, Array] | None:
    if len(lines) < 2:
        return None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # an iteration that no seed has stays a gap
        return band(lines)
