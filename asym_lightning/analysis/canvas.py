"""The common look of the figures: a colour per method, a line style per setting, small multiples.

Small multiples replace a single panel that cannot carry all arms.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from io import BytesIO
from itertools import groupby
from math import ceil
from pathlib import Path

import matplotlib
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.lines import Line2D

from asym_lightning.analysis.arms import Arm
from asym_lightning.metrics.bootstrap import Array

# Readers who confuse red and green can tell these colours apart too; on a grey print the line
# styles differ. The first colour is the baseline's.
COLOURS = ["#222222", "#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00"]
STYLES = [
    "-",
    (0, (5, 2)),
    (0, (1.2, 1.5)),
    (0, (6, 1.5, 1.2, 1.5)),
    (0, (3, 1, 1, 1, 1, 1)),
    (0, (9, 2)),
]
MARKERS = "osD^vP"
# Arms beside the baseline in one of several panels. With more than ``MANY`` arms in all, a panel
# holds as many as the palette carries.
FEW, MANY = 3, 13
COLUMNS = 3
SETTINGS = {
    "font.size": 9,
    "axes.titlesize": 9.5,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#e4e4e4",
    "grid.linewidth": 0.6,
    "legend.frameon": False,
    "legend.fontsize": 8.5,
    "lines.linewidth": 1.6,
    "svg.hashsalt": "asym-lightning",
}


@dataclass(frozen=True)
class Picture:
    """A drawn figure.

    ``name`` is its file name without ending and ``png`` holds the bytes of the PNG file. With
    ``wide`` it takes the full width of the page.
    """

    name: str
    title: str
    caption: str
    png: bytes
    wide: bool = False


class Canvas:
    """Figures of the same arms in the same look, saved as PNG and SVG.

    Args:
        arms: in order; the first method is drawn in the baseline's colour.
        opponents: label -> the arm to compare with; small multiples draw it beside the arm.
        folder: the folder of the files.
    """

    def __init__(self, arms: Sequence[Arm], opponents: dict[str, Arm | None], folder: Path):
        self.arms, self.opponents, self.folder = list(arms), opponents, folder
        methods = list(dict.fromkeys(arm.method for arm in arms))
        self.colour = {method: _colour_of_method(i) for i, method in enumerate(methods)}
        by_method = {method: [arm for arm in arms if arm.method == method] for method in methods}
        self._settings = {method: len(members) for method, members in by_method.items()}
        self._rank = {
            arm.label: i for members in by_method.values() for i, arm in enumerate(members)
        }
        folder.mkdir(parents=True, exist_ok=True)

    def look(self, arm: Arm) -> dict[str, object]:
        """Colour, line style and marker of an arm; later settings of a method are lighter."""
        rank, shades = self._rank[arm.label], self._settings[arm.method]
        fade = 0.0 if shades == 1 else 0.6 * rank / (shades - 1)
        colour = tuple(1 - (1 - c) * (1 - fade) for c in to_rgb(self.colour[arm.method]))
        return {
            "color": colour,
            "linestyle": STYLES[rank % len(STYLES)],
            "marker": MARKERS[rank % len(MARKERS)],
        }

    def panels(self, arms: Sequence[Arm]) -> list[list[Arm]]:
        """Return the arms of each panel.

        One panel holds all arms if the palette has a colour for each; otherwise each panel holds a
        few arms beside their baselines.
        """
        if len(arms) <= len(COLOURS):
            return [list(arms)]
        others = [arm for arm in arms if self.opponents[arm.label] is not arm]
        swept = max(self._settings.values()) > 1
        limit = FEW if len(arms) <= MANY and not swept else len(COLOURS) - 1
        panels = []
        for _, group in groupby(others, key=lambda arm: arm.method if swept else ""):
            members = list(group)
            for start in range(0, len(members), limit):
                chunk = members[start : start + limit]
                baselines = {base.label for arm in chunk if (base := self.opponents[arm.label])}
                panels.append([arm for arm in arms if arm.label in baselines] + chunk)
        return panels

    def draw(
        self,
        name: str,
        title: str,
        caption: str,
        *,
        arms: Sequence[Arm],
        plot: Callable[[Axes, Arm], None],
        x: str,
        y: str,
        **axes: object,
    ) -> Picture:
        """Draw one figure of all arms, panel by panel, and save it.

        Args:
            name: file name without ending.
            plot: draws one arm on an axis.
            x: label of the x axis.
            y: label of the y axis.
            axes: properties set on each axis.
        """
        panels = self.panels(arms)
        figure, grid = self.grid(len(panels))
        for axis, members in zip(grid, panels, strict=True):
            for arm in members:
                plot(axis, arm)
            axis.set(**axes)  # type: ignore[arg-type]
            if len(panels) > 1:
                self._panel_legend(axis, members)
        self.label(figure, grid, x=x, y=y)
        if len(panels) == 1:
            self._figure_legend(figure, arms)
        else:
            caption += (
                f" Each panel: some arms beside {self._baselines(panels)}; "
                "the axes are the same in all."
            )
        return self.save(figure, name, title, caption=caption, wide=len(panels) > 1)

    def _figure_legend(self, figure: Figure, arms: Sequence[Arm]) -> None:
        """Put all arms, each with its number of seeds, below a figure of one panel."""
        labels = []
        for arm in arms:
            seeds = f"{len(arm.runs)} seed{'s' * (len(arm.runs) > 1)}"
            labels.append(text(f"{arm.label} ({seeds})"))
        columns = max(1, min(3, 66 // (max(map(len, labels)) + 4)))
        figure.legend(
            self._handles(arms),
            labels,
            loc="outside lower center",
            ncols=columns,
            handlelength=2.6,
        )

    def _panel_legend(self, axis: Axes, members: Sequence[Arm]) -> None:
        """Put the arms and their baseline above a panel.

        If a method has several settings, these are the settings of the panel's method, without the
        baseline, below the name of the method.
        """
        title, shown = None, list(members)
        others = [arm for arm in members if self.opponents[arm.label] is not arm]
        if others and max(self._settings.values()) > 1:
            title, shown = others[0].method, others
        labels = [arm.label.removeprefix(f"{title}, ") for arm in shown]
        columns = 2 if max(map(len, labels)) <= 22 else 1
        labels = [text(label, 22 if columns == 2 else 46) for label in labels]
        legend = axis.legend(
            self._handles(shown),
            labels,
            loc="lower left",
            bbox_to_anchor=(0, 1),
            ncols=columns,
            columnspacing=1,
            fontsize=7,
            borderpad=0.1,
            alignment="left",
        )
        if title:
            legend.set_title(text(title), FontProperties(size=8))

    def _handles(self, arms: Sequence[Arm]) -> list[Line2D]:
        looks = [{**self.look(arm), "marker": None} for arm in arms]
        return [Line2D([], [], **look) for look in looks]  # type: ignore[arg-type]

    def _baselines(self, panels: Sequence[Sequence[Arm]]) -> str:
        arms = [arm for members in panels for arm in members]
        methods = sorted({arm.method for arm in arms if self.opponents[arm.label] is arm})
        return f"{', '.join(methods)} in black" if methods else "each other"

    def grid(
        self, count: int, sharex: bool = True, sharey: bool = True
    ) -> tuple[Figure, list[Axes]]:
        """Return a figure with ``count`` panels, at most ``COLUMNS`` in a row, and its axes.

        A single panel has the size of a column of the report.
        """
        columns = 2 if count in (2, 4) else min(count, COLUMNS)
        rows = ceil(count / columns)
        size = (5.6, 3.7) if count == 1 else (3.2 * columns, 2.5 * rows + 0.3)
        figure = Figure(figsize=size, layout="constrained")
        grid = figure.subplots(rows, columns, sharex=sharex, sharey=sharey, squeeze=False)
        axes = grid.ravel().tolist()
        for spare in axes[count:]:
            spare.remove()
        for last in axes[max(0, count - columns) : count]:
            last.tick_params(labelbottom=True)
        return figure, axes[:count]

    def label(self, figure: Figure, axes: Sequence[Axes], *, x: str, y: str) -> None:
        """Label a single panel, or the figure if it has several."""
        if len(axes) == 1:
            axes[0].set(xlabel=x, ylabel=y)
        else:
            figure.supxlabel(x, fontsize=9)
            figure.supylabel(y, fontsize=9)

    def save(
        self, figure: Figure, name: str, title: str, *, caption: str, wide: bool = False
    ) -> Picture:
        """Write ``name``.svg and ``name``.png."""
        figure.savefig(self.folder / f"{name}.svg", metadata={"Date": None})
        # The figure is laid out already: a second layout costs as much and changes no pixel.
        figure.set_layout_engine("none")
        stream = BytesIO()
        figure.savefig(stream, format="png", dpi=150)
        (self.folder / f"{name}.png").write_bytes(stream.getvalue())
        return Picture(name, title, caption, png=stream.getvalue(), wide=wide)


def _colour_of_method(index: int) -> str:
    """The colour of the method at ``index``; methods beyond the palette repeat its colours."""
    if index == 0:
        return COLOURS[0]
    return COLOURS[1 + (index - 1) % (len(COLOURS) - 1)]


def shaded(
    axis: Axes,
    x: Array,
    middle: Array,
    *,
    band: tuple[Array, Array] | None,
    look: dict[str, object],
    marked: bool = False,
) -> None:
    """Draw a line with its band, with markers if ``marked``."""
    style = {**look, "marker": look["marker"] if marked else None, "markersize": 4}
    axis.plot(x, middle, **style)  # type: ignore[arg-type]
    if band is not None:
        axis.fill_between(x, *band, color=look["color"], alpha=0.15, linewidth=0)


def text(label: str, limit: int = 48) -> str:
    """Make matplotlib show a name from a run letter by letter.

    It is not read as a formula, not hidden from the legend, and cut to ``limit`` letters.
    """
    plain = "".join(c if c.isprintable() else " " for c in label)
    plain = plain if len(plain) <= limit else f"{plain[: limit - 1]}…"
    return ("\u200b" if plain.startswith("_") else "") + plain.replace("$", r"\$")


def in_style(function: Callable[..., list[Picture]]) -> Callable[..., list[Picture]]:
    """Run a drawing function under the settings of all figures."""

    def styled(*args: object) -> list[Picture]:
        with matplotlib.rc_context(SETTINGS):  # type: ignore[arg-type]
            return function(*args)

    return styled


def file_name(label: str) -> str:
    """Replace the characters of a label that a file name should not have."""
    return re.sub(r"[^A-Za-z0-9@]+", "-", label).strip("-")
