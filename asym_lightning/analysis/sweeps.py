"""Figures of sweeps: frontiers over the settings of each method, and the grid of both exponents."""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from asym_lightning.analysis.arms import Arm, shown
from asym_lightning.analysis.canvas import Canvas, Picture, file_name, shaded, text
from asym_lightning.analysis.comparison import Comparison
from asym_lightning.analysis.frontier import Frontier, Gap, reached
from asym_lightning.analysis.measures import WINDOW
from asym_lightning.metrics.bootstrap import Array

EXPONENTS = ("algo.advantage.beta_neg", "algo.advantage.beta_pos")
# Frontiers in one picture; with more, each is drawn beside that of the first method.
TOGETHER = 3


def fronts(comparison: Comparison, canvas: Canvas) -> list[Picture]:
    """Draw the frontiers of each measure, and below them their gaps to that of the first method."""
    pictures = []
    for name in dict.fromkeys(front.measure for front in comparison.frontiers):
        of_measure = [front for front in comparison.frontiers if front.measure == name]
        gaps = [gap for gap in comparison.gaps if gap.measure == name and gap.grid.size]
        parts = [of_measure]
        if len(of_measure) > TOGETHER:
            parts = [[of_measure[0], other] for other in of_measure[1:]]
        for i, part in enumerate(parts):
            if max(len(front.labels) for front in part) == 1:
                continue
            methods = {front.method for front in part}
            file = f"frontier-{file_name(comparison.labels[name])}"
            if len(of_measure) > TOGETHER:
                file += f"-{i + 1}"
            pictures.append(
                _front_picture(
                    canvas,
                    comparison.arms,
                    part,
                    gaps=[gap for gap in gaps if gap.method in methods],
                    label=comparison.labels[name],
                    file=file,
                )
            )
    return pictures


def _front_picture(
    canvas: Canvas,
    arms: Sequence[Arm],
    frontiers: Sequence[Frontier],
    *,
    gaps: Sequence[Gap],
    label: str,
    file: str,
) -> Picture:
    """Draw frontiers, and below them their gaps to that of the first method if there are any."""
    # Reversed, so that a method has the look of its first setting.
    look = {arm.method: {**canvas.look(arm), "linestyle": "-"} for arm in reversed(arms)}
    figure = Figure(figsize=(6.4, 6.4 if gaps else 4.2), layout="constrained")
    heights = {"height_ratios": [3, 2]} if gaps else None
    axes = figure.subplots(2 if gaps else 1, 1, squeeze=False, gridspec_kw=heights).ravel()
    swept = {key for arm in arms for key in arm.setting}
    middle = float(np.mean([front.range for front in frontiers]))
    for i, front in enumerate(frontiers):
        style = look[front.method]
        if len(front.labels) > 1:
            shaded(axes[0], front.grid, front.curve, band=front.band, look=style)
        legend = text(front.method)
        axes[0].scatter(*front.points.T, color=style["color"], s=22, zorder=3, label=legend)
        names = [_setting_name(arm, swept) for arm in arms if arm.method == front.method]
        # Names of the first method stand below its points, those of the second above, and so on.
        _name_points(
            axes[0],
            front,
            names,
            color=style["color"],
            middle=middle,
            is_above=bool(i % 2),
        )
    axes[0].margins(0.06)
    axes[0].set(ylabel=text(label))
    axes[0].legend()
    for gap in gaps:
        shaded(axes[1], gap.grid, gap.gap, band=gap.interval, look=look[gap.method])
    if gaps:
        axes[1].axhline(0, color="#888888", linewidth=0.8)
        axes[1].set(ylabel=f"gap to {text(gaps[0].baseline, 20)}", xlim=axes[0].get_xlim())
    axes[-1].set(xlabel=f"reward, last {WINDOW} iterations")
    swept_key = f" ({next(iter(swept))})" if len(swept) == 1 else ""
    caption = (
        f"Points: settings{swept_key}, mean over seeds. Line: the highest value reached at this "
        "reward or a higher one; band: 95% bootstrap interval over seeds. Below: a method's "
        "frontier minus the first one's, with its 95% t interval. Bands are of each reward by "
        "itself: verdicts do not rest on them, and towards the ends of the range they are too "
        "narrow."
    )
    return canvas.save(figure, file, f"Frontier of {label}", caption=caption)


def _setting_name(arm: Arm, swept: set[str]) -> str:
    """The value of the swept key if there is one key, else the label without the method."""
    if len(swept) == 1:
        return shown(*arm.setting.values())
    return arm.label.removeprefix(arm.method).removeprefix(", ")


def _name_points(
    axis: Axes,
    front: Frontier,
    names: Sequence[str],
    *,
    color: object,
    middle: float,
    is_above: bool,
) -> None:
    """Write the name of its setting beside each point.

    With more than eight settings only the points on the frontier have names. A name stands on the
    side of its point that is nearer to ``middle``, and above or below the point.
    """
    on_frontier = np.isclose(reached(front.points, front.points[:, 0]), front.points[:, 1])
    for point, name, is_on in zip(front.points, names, on_frontier, strict=True):
        if not is_on and len(front.labels) > 8:
            continue
        is_left = bool(point[0] > middle)
        axis.annotate(
            text(name, 30),
            point,
            fontsize=7,
            color=color,
            textcoords="offset points",
            xytext=(-4 if is_left else 4, 4 if is_above else -4),
            ha="right" if is_left else "left",
            va="bottom" if is_above else "top",
        )


def heat_maps(comparison: Comparison, canvas: Canvas) -> list[Picture]:
    """Draw the main measures over the grid of both exponents.

    There is a picture for each method and each combination of the other settings.
    """
    grids: dict[str, list[Arm]] = {}
    for arm in comparison.arms:
        if all(key in arm.setting for key in EXPONENTS):
            rest = {key: value for key, value in arm.setting.items() if key not in EXPONENTS}
            grids.setdefault(f"{arm.method} {rest or ''}".strip(), []).append(arm)
    pictures = []
    for i, (title, arms) in enumerate(grids.items()):
        x, y = (_numbers(arms, key) for key in EXPONENTS)
        if len(x) > 1 and len(y) > 1:
            pictures.append(
                _heat_picture(comparison, canvas, arms, x=x, y=y, file=f"grid-{i + 1}", title=title)
            )
    return pictures


def _numbers(arms: Sequence[Arm], key: str) -> list[float]:
    """The numeric values of a swept key, sorted."""
    values = {arm.setting[key] for arm in arms}
    return sorted(value for value in values if isinstance(value, int | float))


def _heat_picture(
    comparison: Comparison,
    canvas: Canvas,
    arms: Sequence[Arm],
    *,
    x: list[float],
    y: list[float],
    file: str,
    title: str,
) -> Picture:
    """Draw a panel per main measure; ``x`` and ``y`` are the values of both exponents."""
    figure, axes = canvas.grid(len(comparison.main), sharex=False, sharey=False)
    for axis, name in zip(axes, comparison.main, strict=True):
        table = np.full((len(y), len(x)), np.nan)
        results = {r.arm.label: r for r in comparison.of(name)}
        for arm in arms:
            if arm.label in results:
                column, row = (
                    values.index(arm.setting[key])
                    for values, key in zip((x, y), EXPONENTS, strict=True)
                )
                table[row, column] = results[arm.label].summary.mean
        axis.imshow(table, origin="lower", cmap="cividis", aspect="auto")
        _write_cells(axis, table)
        axis.set_xticks(range(len(x)), [f"{v:g}" for v in x])
        axis.set_yticks(range(len(y)), [f"{v:g}" for v in y])
        axis.set_title(text(comparison.labels[name]), loc="left")
        axis.grid(False)
    canvas.label(figure, axes, x="beta_neg", y="beta_pos")
    caption = (
        f"{title}: mean over seeds for each pair of exponents; an empty cell was not run. "
        "A cell has the spread that the table says."
    )
    return canvas.save(figure, file, "Grid of exponents", caption=caption, wide=True)


def _write_cells(axis: Axes, table: Array) -> None:
    """Write the value of each filled cell, in the colour that its background needs."""
    middle = (np.nanmin(table) + np.nanmax(table)) / 2
    for (row, column), value in np.ndenumerate(table):
        # Cells that were not run hold NaN.
        if value == value:
            axis.text(
                column,
                row,
                f"{value:.3f}",
                ha="center",
                va="center",
                fontsize=7,
                color="white" if value <= middle else "black",
            )
