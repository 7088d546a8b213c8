"""The study's figures, each drawn where its runs are there."""

from collections.abc import Callable
from pathlib import Path

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from asym_lightning.analysis.canvas import COLOURS, MARKERS, SETTINGS
from asym_lightning.metrics.bootstrap import bootstrap
from benchmarks.study.judge import best_rate, fronts, select
from benchmarks.study.pairs import of
from benchmarks.study.plan import MIDDLE
from benchmarks.study.records import CENTRES, EDGES

NAMES = {
    **{
        "grpo": "GRPO",
        "asymgrpo": "AsymGRPO",
        "reinforce": "REINFORCE",
        "pos_only": "Pos-Only",
        "neg_only": "Neg-Only",
    },
    **{
        "dr_grpo": "Dr.GRPO",
        "ent_decrease": "EntDecrease",
        "ent_increase": "EntIncrease",
        "maxrl": "MaxRL",
        "pass_at_k": "Pass@k",
    },
    **{
        "f_grpo": "F-GRPO",
        "asymgrpo_adaptive": "AsymGRPO, steered",
        "grpo_entropy": "GRPO + entropy bonus",
        "gspo": "GSPO",
    },
    **{"asymgrpo_entropy": "AsymGRPO + entropy bonus", "grpo_clip_higher": "GRPO + clip-higher"},
    "asymgrpo_clip_higher": "AsymGRPO + clip-higher",
}
MAIN = ("grpo", "asymgrpo", "reinforce", "pos_only", "neg_only")
TESTBEDS = {
    "frontier": "pairs countdown",
    "chain": "chain countdown",
    "quick": "pairs countdown, 60 iterations",
}
LABELS = {
    "pass@1": "held-out pass@1",
    "pass@8": "held-out pass@8",
    "entropy": "policy entropy (nats)",
    "unsolved": "unsolved prompts",
}
REWARD = "training reward, last 10 iterations"


def draw_all(rows: pd.DataFrame, folder: Path) -> dict[str, str]:
    """Draw into ``folder``; file name -> caption of what was drawn."""
    folder.mkdir(parents=True, exist_ok=True)
    draws: dict[str, Callable[[pd.DataFrame], tuple[Figure, str] | None]] = {
        "frontiers": frontier_figure,
        "methods": method_figure,
        "exponents": exponent_figure,
        "pass_at_k": pass_figure,
        "ledger": ledger_figure,
        "covariance": covariance_figure,
    }
    captions = {}
    with matplotlib.rc_context(SETTINGS):  # type: ignore[arg-type]
        for name, draw in draws.items():
            if drawn := draw(rows):
                figure, captions[f"{name}.png"] = drawn
                figure.savefig(folder / f"{name}.png", dpi=110)
    return captions


def _parts(rows: pd.DataFrame, *wanted: str) -> list[str]:
    return [part for part in wanted or TESTBEDS if (rows["part"] == part).any()]


def _methods(rows: pd.DataFrame, part: str) -> list[str]:
    there = set(rows.loc[rows["part"] == part, "method"])
    return [method for method in MAIN if method in there]


def _grid(
    rows: int, columns: int, width: float = 4.6, height: float = 3.6
) -> tuple[Figure, np.ndarray]:
    figure = Figure(figsize=(width * columns, height * rows), layout="constrained")
    return figure, figure.subplots(rows, columns, squeeze=False)


def frontier_figure(rows: pd.DataFrame) -> tuple[Figure, str] | None:
    """pass@8 and entropy against reward, a row per testbed."""
    parts = _parts(rows)
    if not parts:
        return None
    figure, axes = _grid(len(parts), 2)
    for line, part in zip(axes, parts, strict=True):
        for axis, measure in zip(line, ("pass@8", "entropy"), strict=True):
            found = fronts(
                rows, {method: of(part, method) for method in _methods(rows, part)}, measure
            )[0]
            for front in found:
                i = MAIN.index(front.method)
                axis.plot(front.grid, front.curve, color=COLOURS[i], label=NAMES[front.method])
                axis.scatter(
                    *front.points.T,
                    color=COLOURS[i],
                    marker=MARKERS[i % len(MARKERS)],
                    s=20,
                    zorder=3,
                )
                if front.band is not None:
                    axis.fill_between(
                        front.grid, *front.band, color=COLOURS[i], alpha=0.13, linewidth=0
                    )
            axis.set(xlabel=REWARD, ylabel=LABELS[measure], title=TESTBEDS[part])
    axes[0, 1].legend()
    return figure, (
        "Frontiers over five learning rates. Points: one learning rate each, mean over seeds; "
        "line: the highest value reached at this reward or a higher one; band: 95% bootstrap "
        "interval over seeds, of each reward by itself. Higher and further right is better on the "
        "left."
    )


def method_figure(rows: pd.DataFrame) -> tuple[Figure, str] | None:
    """Entropy against pass@8 for every arm over learning rates."""
    parts = _parts(rows, "frontier", "rivals", "entropy", "two_updates", "quick")
    arms = rows[rows["part"].isin(parts)]
    if arms.empty:
        return None
    figure, axes = _grid(1, 2, 5.6, 5.0)
    means = (
        arms.groupby(["part", "method", "learning_rate"])[["entropy", "pass@8", "reward"]]
        .mean()
        .reset_index()
    )
    for i, ((part, method), members) in enumerate(means.groupby(["part", "method"])):
        style = {
            "color": f"C{i % 10}",
            "marker": "osD^vPX<>*"[i // 10 * 3 % 10 + i % 3],
            "markersize": 5,
            "linewidth": 0.7,
        }
        label = NAMES[method] + (", two updates" if part == "two_updates" else "")
        for axis, x in zip(axes[0], ("entropy", "reward"), strict=True):
            axis.plot(members[x], members["pass@8"], label=label, **style)
    axes[0, 0].set(xlabel=LABELS["entropy"], ylabel=LABELS["pass@8"])
    axes[0, 1].set(xlabel=REWARD)
    handles, labels = axes[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=4)
    return (
        figure,
        "Every method at each learning rate (points, mean over seeds; a line joins a method's "
        "rates from the smallest).",
    )


def exponent_figure(rows: pd.DataFrame) -> tuple[Figure, str] | None:
    """Heat maps over the grid of exponents."""
    cells = select(rows, of("exponents", "asymgrpo")) if len(rows) else rows
    if cells.empty:
        return None
    figure, axes = _grid(1, 4, 3.6, 3.4)
    for axis, measure in zip(axes[0], LABELS, strict=True):
        table = cells.pivot_table(
            index="beta_pos", columns="beta_neg", values=measure, aggfunc="mean"
        ).sort_index()
        axis.imshow(table, origin="lower", cmap="cividis", aspect="auto")
        middle = (np.nanmin(table) + np.nanmax(table)) / 2
        for (y, x), value in np.ndenumerate(table.to_numpy()):
            axis.text(
                x,
                y,
                f"{value:.3f}",
                ha="center",
                va="center",
                fontsize=6.5,
                color="white" if value <= middle else "black",
            )
        axis.set_xticks(range(len(table.columns)), [f"{v:g}" for v in table.columns])
        axis.set_yticks(range(len(table.index)), [f"{v:g}" for v in table.index])
        axis.set(xlabel="beta_neg", ylabel="beta_pos", title=LABELS[measure])
        axis.grid(False)
    return (
        figure,
        "The grid of exponents at learning rate 3e-4, mean over seeds. (0, 0) is REINFORCE, (0.5, "
        "0.5) GRPO, (0.9, 0.4) AsymGRPO.",
    )


def pass_figure(rows: pd.DataFrame) -> tuple[Figure, str] | None:
    """pass@k against k, each method at its best rate for pass@1."""
    parts = _parts(rows)
    if not parts:
        return None
    names = [name for name in rows if name.startswith("pass@")]
    figure, axes = _grid(1, len(parts))
    for axis, part in zip(axes[0], parts, strict=True):
        for method in _methods(rows, part):
            rate = best_rate(rows, of(part, method), "pass@1")
            if rate is None:
                continue
            values = select(rows, of(part, method, learning_rate=rate))[names].to_numpy(
                dtype=np.float64
            )
            _line(
                axis,
                [int(name[5:]) for name in names],
                values,
                MAIN.index(method),
                f"{NAMES[method]}, {rate:g}",
            )
        axis.set_xscale("log", base=2)
        axis.set_xticks([int(name[5:]) for name in names], [name[5:] for name in names])
        axis.set(xlabel="k", ylabel="held-out pass@k", title=TESTBEDS[part])
        axis.legend()
    return (
        figure,
        "pass@k, each method at the learning rate of its highest pass@1; band: 95% bootstrap "
        "interval over seeds.",
    )


def _line(axis: Axes, x: list, values: np.ndarray, i: int, label: str) -> None:
    axis.plot(
        x,
        values.mean(axis=0),
        color=COLOURS[i],
        marker=MARKERS[i % len(MARKERS)],
        markersize=4,
        label=label,
    )
    if len(values) > 1:
        axis.fill_between(
            x, *bootstrap(np.mean, values.T), color=COLOURS[i], alpha=0.13, linewidth=0
        )


def ledger_figure(rows: pd.DataFrame) -> tuple[Figure, str] | None:
    """The entropy ledger by channel, predicted and measured."""
    parts = _parts(rows)
    if not parts:
        return None
    figure, axes = _grid(1, len(parts), 5.0)
    channels = {
        f"{way}_{side}": f"{way}, {word}"
        for way in ("predicted", "measured")
        for side, word in (("positive", "right"), ("negative", "wrong"))
    }
    for axis, part in zip(axes[0], parts, strict=True):
        methods = _methods(rows, part)
        for j, (column, label) in enumerate(channels.items()):
            values = [
                select(rows, of(part, m, learning_rate=MIDDLE))[column].astype(float)
                for m in methods
            ]
            style = {"color": COLOURS[1 + j % 2], "alpha": 0.45 if "predicted" in column else 1.0}
            at = np.arange(len(methods)) + 0.2 * (j - 1.5)
            axis.bar(
                at,
                [v.mean() for v in values],
                0.18,
                yerr=[v.std() if len(v) > 1 else 0 for v in values],
                label=label,
                **style,
            )
        axis.axhline(0, color="#888888", linewidth=0.8)
        axis.set_xticks(range(len(methods)), [NAMES[m] for m in methods], fontsize=7.5)
        axis.set(ylabel="change of entropy (nats per token)", title=TESTBEDS[part])
    axes[0, 0].legend()
    return figure, (
        "The entropy ledger summed over training at learning rate 3e-4, by outcome: what the "
        "first-order theory says that right and wrong rollouts contributed, and the change "
        "measured on their tokens. Mean over seeds, bars one standard deviation."
    )


def covariance_figure(rows: pd.DataFrame) -> tuple[Figure, str] | None:
    """Covariance of log-prob and outcome by the group's accuracy."""
    parts = _parts(rows)
    if not parts:
        return None
    figure, axes = _grid(1, len(parts))
    for axis, part in zip(axes[0], parts, strict=True):
        for method in _methods(rows, part):
            values = select(rows, of(part, method, learning_rate=MIDDLE))[
                [f"covariance_{edge}" for edge in EDGES]
            ].dropna()
            if len(values):
                _line(
                    axis,
                    CENTRES,
                    values.to_numpy(dtype=np.float64),
                    MAIN.index(method),
                    NAMES[method],
                )
        axis.set(
            xlabel="group accuracy p", ylabel="covariance (nats)", xlim=(0, 1), title=TESTBEDS[part]
        )
        axis.legend()
    return (
        figure,
        "Covariance of a rollout's log-prob per token and its outcome (+1, -1) by quarter of the "
        "group's accuracy, at learning rate 3e-4.",
    )
