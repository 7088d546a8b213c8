"""All figures of a report, and those of pass@k against k, covariance and spread over runs."""

from collections.abc import Callable

import numpy as np
from matplotlib.axes import Axes

from asym_lightning.analysis import curves
from asym_lightning.analysis.arms import Arm
from asym_lightning.analysis.canvas import Canvas, Picture, file_name, in_style, shaded, text
from asym_lightning.analysis.comparison import Comparison
from asym_lightning.analysis.measures import WINDOW, last_mean, pass_at
from asym_lightning.analysis.statistics import profile
from asym_lightning.analysis.sweeps import fronts, heat_maps
from asym_lightning.metrics.bootstrap import Array

BINS = "covariance/p_"
DrawFigures = Callable[[Comparison, Canvas], list[Picture]]
Lines = dict[str, tuple[Array, Array]]  # label of an arm -> (x, [seeds, x])


def draw_all(comparison: Comparison, canvas: Canvas) -> list[tuple[str, list[Picture]]]:
    """Draw the sections of the report; pictures of numbers that no run has are left out."""
    sections: list[tuple[str, list[DrawFigures]]] = [
        ("Training", [curves.training]),
        ("Entropy", [curves.entropy, curves.entropy_against_reward, covariance, curves.ledger]),
        ("Held-out and pass@k", [pass_against_k, profiles, curves.evaluations]),
        ("Sweeps", [fronts, heat_maps]),
    ]
    drawn = [
        (title, [picture for draw in draws for picture in in_style(draw)(comparison, canvas)])
        for title, draws in sections
    ]
    return [(title, pictures) for title, pictures in drawn if pictures]


def pass_against_k(comparison: Comparison, canvas: Canvas) -> list[Picture]:
    """Draw pass@k against k for each evaluation set, and for the training rollouts."""
    pictures = []
    passes: dict[str, list[tuple[int, str]]] = {}
    for measure in comparison.measures:
        if prefix_and_k := pass_at(measure.name):
            prefix, k = prefix_and_k
            passes.setdefault(prefix, []).append((k, measure.name))
    results = comparison.by_arm_and_measure
    for prefix, members in passes.items():
        lines = {}
        for arm in comparison.arms:
            found = {k: results.get((arm.label, name)) for k, name in members}
            by_k = {k: result.values if result else {} for k, result in found.items()}
            lines[arm.label] = _over_seeds(by_k)
        problems = prefix.removeprefix("eval/").rstrip("/").replace("heldout", "held-out")
        caption = f"Final evaluation on {problems} problems."
        file, title = f"pass-at-k-{file_name(problems)}", f"pass@k against k, {problems}"
        pictures += _pass_picture(comparison, canvas, lines, file=file, title=title, about=caption)
    lines = _training_passes(comparison)
    file, title = "pass-at-k-training", "pass@k against k, training"
    caption = f"Training rollouts, mean of the last {WINDOW} iterations."
    pictures += _pass_picture(comparison, canvas, lines, file=file, title=title, about=caption)
    return pictures


def _training_passes(comparison: Comparison) -> Lines:
    """The pass@k of the training rollouts, over the last iterations."""
    columns = {name for run in comparison.runs for name in run.train if name.startswith("train/")}
    names = {match[1]: name for name in sorted(columns) if (match := pass_at(name))}
    lines = {}
    for arm in comparison.arms:
        by_k: dict[int, dict[int, float]] = {k: {} for k in names}
        for k, name in names.items():
            for seed, run in arm.runs.items():
                mean = last_mean(run, name, comparison.cut)
                if mean is not None:
                    by_k[k][seed] = mean
        lines[arm.label] = _over_seeds(by_k)
    return lines


def _pass_picture(
    comparison: Comparison, canvas: Canvas, lines: Lines, *, file: str, title: str, about: str
) -> list[Picture]:
    """Draw pass@k of the arms that have it for two or more k, if there are any."""
    arms = [arm for arm in comparison.arms if lines[arm.label][0].size > 1]
    if not arms:
        return []

    def plot(axis: Axes, arm: Arm) -> None:
        ks, _ = lines[arm.label]
        curves.mean_line(axis, canvas, arm, line=lines[arm.label], marked=True)
        axis.set_xscale("log", base=2)
        axis.set_xticks(ks, [f"{k:g}" for k in ks])

    picture = canvas.draw(
        file,
        title,
        f"{about} {curves.BAND}",
        arms=arms,
        plot=plot,
        x="k (samples per problem)",
        y="pass@k",
    )
    return [picture]


def _over_seeds(points: dict[int, dict[int, float]]) -> tuple[Array, Array]:
    """Convert x -> seed -> value to (x, [seeds, x]).

    Kept are the x that have values, and the seeds that have all of them.
    """
    filled = {x: values for x, values in sorted(points.items()) if values}
    seeds = sorted(set.intersection(*(set(values) for values in filled.values()))) if filled else []
    if not seeds:
        return np.empty(0), np.empty((0, 0))
    rows = [[filled[x][seed] for x in filled] for seed in seeds]
    return np.array(list(filled), dtype=np.float64), np.array(rows)


def covariance(comparison: Comparison, canvas: Canvas) -> list[Picture]:
    """Draw the covariance of log-prob and outcome against the group's accuracy.

    It is the mean over all iterations of training.
    """
    columns = {name for run in comparison.runs for name in run.train if name.startswith(BINS)}
    edges = sorted({float(name.removeprefix(BINS)) for name in columns})
    if not edges:
        return []
    centres = [(edge + upper) / 2 for edge, upper in zip(edges, [*edges[1:], 1.0], strict=True)]
    lines = {}
    for arm in comparison.arms:
        points: dict[int, dict[int, float]] = {}
        for i, edge in enumerate(edges):
            name = f"{BINS}{edge:.2f}"
            means = {
                seed: run.train[name][run.train.index < comparison.cut].mean()
                for seed, run in arm.runs.items()
                if name in run.train
            }
            # A NaN is the mean of a bin that had no group.
            points[i] = {seed: float(mean) for seed, mean in means.items() if mean == mean}
        bins, rows = _over_seeds(points)
        lines[arm.label] = np.array([centres[int(i)] for i in bins]), rows
    arms = [arm for arm in comparison.arms if lines[arm.label][0].size]
    if not arms:
        return []

    def plot(axis: Axes, arm: Arm) -> None:
        curves.mean_line(axis, canvas, arm, line=lines[arm.label], marked=True)

    caption = (
        "Covariance of a rollout's log-prob per token and its outcome (+1, -1) by the accuracy of "
        "its group, mean over all iterations."
    )
    picture = canvas.draw(
        "covariance",
        "Covariance against accuracy",
        f"{caption} {curves.BAND}",
        arms=arms,
        plot=plot,
        x="group accuracy p",
        y="covariance (nats)",
        xlim=(0, 1),
    )
    return [picture]


def profiles(comparison: Comparison, canvas: Canvas) -> list[Picture]:
    """Draw performance profiles of reward and held-out pass@k: the spread of an arm's runs."""
    pictures = []
    caption = (
        "Performance profile: share of an arm's runs above each value; band: 95% bootstrap "
        "interval over seeds, from five seeds on. The line further to the right has the higher "
        "values."
    )
    for name in [n for n in comparison.main if n == "reward/mean" or n.startswith("eval/")]:
        results = {r.arm.label: r for r in comparison.of(name) if r.summary.n > 1}
        if not results:
            continue
        by_arm = {label: list(result.values.values()) for label, result in results.items()}
        all_values = [v for values in by_arm.values() for v in values]
        margin = 0.1 * (max(all_values) - min(all_values)) or 0.01
        thresholds = np.linspace(min(all_values) - margin, max(all_values) + margin, 201)
        label = next(iter(results.values())).measure.label
        pictures.append(
            canvas.draw(
                f"profile-{file_name(label)}",
                f"Spread of runs: {label}",
                caption,
                arms=[arm for arm in comparison.arms if arm.label in results],
                plot=_profile_plot(canvas, by_arm, thresholds),
                x=text(label),
                y="share of runs above",
            )
        )
    return pictures


def _profile_plot(
    canvas: Canvas, by_arm: dict[str, list[float]], thresholds: Array
) -> Callable[[Axes, Arm], None]:
    """Return a function that draws the performance profile of an arm."""

    def plot(axis: Axes, arm: Arm) -> None:
        values = by_arm[arm.label]
        share, low, high = profile(values, thresholds)
        ends = (low, high) if len(values) >= 5 else None
        shaded(axis, thresholds, share, band=ends, look=canvas.look(arm))

    return plot
