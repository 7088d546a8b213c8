"""Figures of what runs ended with: pass@k against k, spread over runs, covariance, frontiers, the grid of exponents; and all of them."""

from collections.abc import Callable, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from asym_lightning.analysis import curves
from asym_lightning.analysis.arms import Arm, shown
from asym_lightning.analysis.canvas import Canvas, Picture, file_name, in_style, shaded, text
from asym_lightning.analysis.comparison import Comparison
from asym_lightning.analysis.frontier import Frontier, Gap, reached
from asym_lightning.analysis.measures import WINDOW, pass_at
from asym_lightning.analysis.runs import Run
from asym_lightning.analysis.statistics import Array, band, profile

BINS = "covariance/p_"
EXPONENTS = ("algo.advantage.beta_neg", "algo.advantage.beta_pos")


def draw_all(comparison: Comparison, canvas: Canvas) -> list[tuple[str, list[Picture]]]:
    """The sections of the report with their pictures; a picture whose numbers no run has is not drawn."""
    sections: list[tuple[str, list[Callable[[Comparison, Canvas], list[Picture]]]]] = [
        ("Training", [curves.training]),
        ("Entropy", [curves.entropy, curves.entropy_against_reward, covariance, curves.ledger]),
        ("Held-out and pass@k", [pass_against_k, profiles, curves.evaluations]),
        ("Sweeps", [fronts, heat_maps]),
    ]
    drawn = [(title, [picture for draw in draws for picture in in_style(draw)(comparison, canvas)]) for title, draws in sections]
    return [(title, pictures) for title, pictures in drawn if pictures]


def pass_against_k(comparison: Comparison, canvas: Canvas) -> list[Picture]:
    """pass@k against k: one picture per evaluation set, and one of the training rollouts where runs have it."""
    pictures = []
    passes: dict[str, list[tuple[int, str]]] = {}
    for measure in comparison.measures:
        if where := pass_at(measure.name):
            passes.setdefault(where[0], []).append((where[1], measure.name))
    values = {(r.arm.label, r.measure.name): r.values for r in comparison.results}
    for prefix, members in passes.items():
        points = {arm.label: {k: values.get((arm.label, name), {}) for k, name in sorted(members)} for arm in comparison.arms}
        problems = prefix.removeprefix("eval/").rstrip("/").replace("heldout", "held-out")
        caption = f"Final evaluation on {problems} problems."
        title = f"pass@k against k, {problems}"
        pictures += _pass_picture(comparison, canvas, points, f"pass-at-k-{file_name(problems)}", title, caption)
    names = sorted({name for run in comparison.runs for name in run.train if name.startswith("train/") and pass_at(name)})
    if names:
        points = {
            arm.label: {
                pass_at(name)[1]: {seed: v for seed, run in arm.runs.items() if (v := _last(run, name, comparison.cut)) is not None}  # type: ignore[index]
                for name in names
            }
            for arm in comparison.arms
        }
        caption = f"Training rollouts, mean of the last {WINDOW} iterations."
        pictures += _pass_picture(comparison, canvas, points, "pass-at-k-training", "pass@k against k, training", caption)
    return pictures


def _pass_picture(
    comparison: Comparison, canvas: Canvas, points: dict[str, dict[int, dict[int, float]]], file: str, title: str, caption: str
) -> list[Picture]:
    lines = {arm.label: _over_seeds(points[arm.label]) for arm in comparison.arms}
    arms = [arm for arm in comparison.arms if lines[arm.label][0].size > 1]
    if not arms:
        return []

    def plot(axis: Axes, arm: Arm) -> None:
        ks, rows = lines[arm.label]
        shaded(axis, ks, rows.mean(axis=0), band(rows) if len(rows) > 1 else None, canvas.look(arm), marked=True)
        axis.set_xscale("log", base=2)
        axis.set_xticks(ks, [f"{k:g}" for k in ks])

    return [canvas.draw(file, title, f"{caption} {curves.BAND}", arms, plot, "k (samples per problem)", "pass@k")]


def _over_seeds(points: dict[int, dict[int, float]]) -> tuple[Array, Array]:
    """(x, [seeds, x]) over the x that have values and the seeds that have all of them."""
    filled = {x: values for x, values in sorted(points.items()) if values}
    seeds = sorted(set.intersection(*(set(v) for v in filled.values()))) if filled else []
    if not seeds:
        return np.empty(0), np.empty((0, 0))
    return np.array(list(filled), dtype=np.float64), np.array([[filled[x][s] for x in filled] for s in seeds])


def covariance(comparison: Comparison, canvas: Canvas) -> list[Picture]:
    """Covariance of log-prob and outcome against the group's accuracy, over the whole of training."""
    edges = sorted({float(name.removeprefix(BINS)) for run in comparison.runs for name in run.train if name.startswith(BINS)})
    if not edges:
        return []
    centre = {edge: (edge + upper) / 2 for edge, upper in zip(edges, [*edges[1:], 1.0], strict=True)}
    lines = {}
    for arm in comparison.arms:
        points: dict[int, dict[int, float]] = {}
        for i, edge in enumerate(edges):
            name = f"{BINS}{edge:.2f}"
            means = {s: run.train[name][run.train.index < comparison.cut].mean() for s, run in arm.runs.items() if name in run.train}
            points[i] = {s: float(m) for s, m in means.items() if m == m}
        at, rows = _over_seeds(points)
        lines[arm.label] = np.array([centre[edges[int(i)]] for i in at]), rows
    arms = [arm for arm in comparison.arms if lines[arm.label][0].size]

    def plot(axis: Axes, arm: Arm) -> None:
        at, rows = lines[arm.label]
        shaded(axis, at, rows.mean(axis=0), band(rows) if len(rows) > 1 else None, canvas.look(arm), marked=True)

    if not arms:
        return []
    caption = (
        "Covariance of a rollout's log-prob per token and its outcome (+1, -1) by the accuracy of its group, mean over all iterations."
    )
    labels = ("group accuracy p", "covariance (nats)")
    return [canvas.draw("covariance", "Covariance against accuracy", f"{caption} {curves.BAND}", arms, plot, *labels, xlim=(0, 1))]


def profiles(comparison: Comparison, canvas: Canvas) -> list[Picture]:
    """Performance profiles of reward and held-out pass@k: how the runs of an arm spread, not only their mean."""
    pictures = []
    for name in [n for n in comparison.main if n == "reward/mean" or n.startswith("eval/")]:
        results = {r.arm.label: r for r in comparison.of(name) if r.summary.n > 1}
        if not results:
            continue
        everything = [v for r in results.values() for v in r.values.values()]
        margin = 0.1 * (max(everything) - min(everything)) or 0.01
        thresholds = np.linspace(min(everything) - margin, max(everything) + margin, 201)

        def plot(axis: Axes, arm: Arm, results: dict = results, thresholds: Array = thresholds) -> None:
            share, low, high = profile(list(results[arm.label].values.values()), thresholds)
            shaded(axis, thresholds, share, (low, high) if results[arm.label].summary.n >= 5 else None, canvas.look(arm))

        label = next(iter(results.values())).measure.label
        caption = (
            "Performance profile: share of an arm's runs above each value; band: 95% bootstrap interval over seeds, from five seeds on. "
            "The line further to the right has the higher values."
        )
        arms = [arm for arm in comparison.arms if arm.label in results]
        labels = (text(label), "share of runs above")
        pictures.append(canvas.draw(f"profile-{file_name(label)}", f"Spread of runs: {label}", caption, arms, plot, *labels))
    return pictures


def fronts(comparison: Comparison, canvas: Canvas) -> list[Picture]:
    """Frontiers above, their gap to the first method's below: up to three methods in one picture, else each beside the first."""
    pictures = []
    for name in dict.fromkeys(f.measure for f in comparison.frontiers):
        found = [f for f in comparison.frontiers if f.measure == name]
        between = [gap for gap in comparison.gaps if gap.measure == name and gap.grid.size]
        label = next(m.label for m in comparison.measures if m.name == name)
        for i, part in enumerate([found] if len(found) <= 3 else [[found[0], other] for other in found[1:]]):
            if max(len(f.labels) for f in part) > 1:
                gaps = [gap for gap in between if gap.method in {f.method for f in part}]
                file = f"frontier-{file_name(label)}" + (f"-{i + 1}" if len(found) > 3 else "")
                pictures.append(_front_picture(canvas, comparison.arms, part, gaps, label, file))
    return pictures


def _front_picture(
    canvas: Canvas, arms: Sequence[Arm], found: Sequence[Frontier], between: Sequence[Gap], label: str, file: str
) -> Picture:
    look = {arm.method: canvas.look(arm) for arm in reversed(arms)}  # of a method's first setting
    figure = Figure(figsize=(6.4, 6.4 if between else 4.2), layout="constrained")
    axes = figure.subplots(2 if between else 1, 1, squeeze=False, gridspec_kw={"height_ratios": [3, 2]} if between else None).ravel()
    swept = {key for arm in arms for key in arm.setting}
    middle = np.mean([f.range for f in found])
    for i, front in enumerate(found):
        style = {**look[front.method], "linestyle": "-"}
        if len(front.labels) > 1:
            shaded(axes[0], front.grid, front.curve, front.band, style)
        axes[0].scatter(*front.points.T, color=style["color"], s=22, zorder=3, label=text(front.method))
        on = np.isclose(reached(front.points, front.points[:, 0]), front.points[:, 1])
        for point, arm, best in zip(front.points, [arm for arm in arms if arm.method == front.method], on, strict=True):
            if best or len(front.labels) <= 8:
                words = shown(*arm.setting.values()) if len(swept) == 1 else arm.label.removeprefix(front.method).removeprefix(", ")
                right, above = bool(point[0] > middle), bool(i % 2)  # towards the middle; the first method's names below its points
                place = {
                    "xytext": (-4 if right else 4, 4 if above else -4),
                    "ha": "right" if right else "left",
                    "va": "bottom" if above else "top",
                }
                axes[0].annotate(text(words, 30), point, fontsize=7, color=style["color"], textcoords="offset points", **place)
    axes[0].margins(0.06)
    axes[0].set(ylabel=text(label))
    axes[0].legend()
    for gap in between:
        shaded(axes[1], gap.grid, gap.gap, gap.interval, {**look[gap.method], "linestyle": "-"})
    if between:
        axes[1].axhline(0, color="#888888", linewidth=0.8)
        axes[1].set(ylabel=f"gap to {text(between[0].baseline, 20)}", xlim=axes[0].get_xlim())
    axes[-1].set(xlabel=f"reward, last {WINDOW} iterations")
    which = f" ({next(iter(swept))})" if len(swept) == 1 else ""
    caption = (
        f"Points: settings{which}, mean over seeds. Line: the highest value reached at this reward or a higher one; band: 95% bootstrap "
        "interval over seeds. Below: a method's frontier minus the first one's, with its 95% t interval. Bands are of each reward by "
        "itself: verdicts do not rest on them, and towards the ends of the range they are too narrow."
    )
    return canvas.save(figure, file, f"Frontier of {label}", caption)


def heat_maps(comparison: Comparison, canvas: Canvas) -> list[Picture]:
    """Main measures over the grid of both exponents, one picture per method and other settings."""
    grids: dict[str, list[Arm]] = {}
    for arm in comparison.arms:
        if all(key in arm.setting for key in EXPONENTS):
            rest = {key: value for key, value in arm.setting.items() if key not in EXPONENTS}
            grids.setdefault(f"{arm.method} {rest or ''}".strip(), []).append(arm)
    pictures = []
    for i, (which, arms) in enumerate(grids.items()):
        x, y = (sorted({arm.setting[key] for arm in arms if isinstance(arm.setting[key], int | float)}) for key in EXPONENTS)
        if len(x) > 1 and len(y) > 1:
            pictures.append(_heat_picture(comparison, canvas, arms, x, y, f"grid-{i + 1}", which))
    return pictures


def _heat_picture(
    comparison: Comparison, canvas: Canvas, arms: Sequence[Arm], x: list[float], y: list[float], file: str, which: str
) -> Picture:
    figure, axes = canvas.grid(len(comparison.main), sharex=False, sharey=False)
    for axis, name in zip(axes, comparison.main, strict=True):
        table = np.full((len(y), len(x)), np.nan)
        results = {r.arm.label: r for r in comparison.of(name)}
        for arm in arms:
            if arm.label in results:
                table[y.index(arm.setting[EXPONENTS[1]]), x.index(arm.setting[EXPONENTS[0]])] = results[arm.label].summary.mean
        axis.imshow(table, origin="lower", cmap="cividis", aspect="auto")
        middle = (np.nanmin(table) + np.nanmax(table)) / 2
        for (row, column), v in np.ndenumerate(table):
            if v == v:
                axis.text(column, row, f"{v:.3f}", ha="center", va="center", fontsize=7, color="white" if v <= middle else "black")
        axis.set_xticks(range(len(x)), [f"{v:g}" for v in x])
        axis.set_yticks(range(len(y)), [f"{v:g}" for v in y])
        axis.set_title(text(next(m.label for m in comparison.measures if m.name == name)), loc="left")
        axis.grid(False)
    canvas.label(figure, axes, "beta_neg", "beta_pos")
    caption = f"{which}: mean over seeds for each pair of exponents; an empty cell was not run. A cell has the spread that the table says."
    return canvas.save(figure, file, "Grid of exponents", caption, wide=True)


def _last(run: Run, name: str, cut: int) -> float | None:
    if name not in run.train:
        return None
    last = run.train[name][run.train.index < cut].tail(WINDOW).dropna()
    return float(last.mean()) if len(last) else None
