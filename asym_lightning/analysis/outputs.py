"""Outputs of a comparison: report.html, figures/, table.csv, stats.json, a terminal table."""

import csv
import json
from dataclasses import asdict
from math import isfinite
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from asym_lightning.analysis.arms import Arm, shown
from asym_lightning.analysis.canvas import Canvas
from asym_lightning.analysis.comparison import Comparison, Result
from asym_lightning.analysis.figures import draw_all
from asym_lightning.analysis.frontier import Frontier, Gap
from asym_lightning.analysis.measures import WINDOW
from asym_lightning.analysis.report import SIGNS, number, page
from asym_lightning.analysis.runs import ComparisonError
from asym_lightning.analysis.statistics import Interval, as_json
from asym_lightning.metrics.bootstrap import LEVEL, RESAMPLES

TOOL = "asym-lightning compare"


def claim(out: Path) -> None:
    """Make the folder ``out``, and remove the figures of an earlier report in it.

    The other files of an earlier report will be overwritten.

    Raises:
        ComparisonError: the folder holds anything but an earlier report, or it cannot be made.
    """
    if out.exists() and not out.is_dir():
        raise ComparisonError(f"--out {out}: it is a file; name a folder")
    if out.is_dir() and any(out.iterdir()):
        if not _holds_report(out):
            raise ComparisonError(
                f"--out {out}: the folder is not empty and holds no earlier report; name a new one"
            )
        for old in (out / "figures").glob("*.[ps][nv]g"):
            old.unlink()
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ComparisonError(f"--out {out}: {error.strerror}") from None


def _holds_report(folder: Path) -> bool:
    """Return whether the folder has the stats.json of an earlier report."""
    try:
        stats = json.loads((folder / "stats.json").read_text(encoding="utf-8"))
        return bool(stats["tool"] == TOOL)
    except (OSError, ValueError, TypeError, KeyError):
        return False


def write(comparison: Comparison, out: Path) -> None:
    """Draw the figures and write all files of the report into ``out``."""
    canvas = Canvas(comparison.arms, comparison.opponents, out / "figures")
    sections = draw_all(comparison, canvas)
    (out / "report.html").write_text(page(comparison, sections, canvas.colour), encoding="utf-8")
    with (out / "table.csv").open("w", newline="", encoding="utf-8") as file:
        rows = [_row(result) for result in comparison.results]
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    (out / "stats.json").write_text(
        json.dumps(statistics(comparison), indent=1, allow_nan=False), encoding="utf-8"
    )


def _row(r: Result) -> dict[str, Any]:
    """One line of table.csv; a missing number is an empty cell."""
    pair, better = r.paired, r.improvement or (None, None)
    return {
        "arm": r.arm.label,
        "method": r.arm.method,
        "measure": r.measure.name,
        "better_is": {1: "higher", -1: "lower", 0: ""}[r.measure.direction],
        "seeds": r.summary.n,
        "mean": r.summary.mean,
        "std": r.summary.std,
        **_ends("mean", r.summary.interval),
        "iqm": r.summary.iqm,
        **_ends("iqm", r.summary.iqm_interval),
        "baseline": r.baseline.label if r.baseline else None,
        "shared_seeds": pair.n if pair else None,
        "difference": pair.difference if pair else None,
        **_ends("difference_t", pair.t_interval if pair else None),
        **_ends("difference_bootstrap", pair.bootstrap_interval if pair else None),
        "p_t": pair.p_t if pair else None,
        "p_holm": r.p_holm,
        "p_sign_flip": pair.p_sign_flip if pair else None,
        "smallest_p_sign_flip": pair.smallest_p if pair else None,
        "probability_of_improvement": better[0],
        **_ends("probability_of_improvement", better[1]),
        "verdict": r.verdict,
    }


def _ends(name: str, interval: Interval | None) -> dict[str, float | None]:
    """The two columns of an interval."""
    low, high = interval or (None, None)
    return {f"{name}_low": low, f"{name}_high": high}


def statistics(c: Comparison) -> dict[str, Any]:
    """Return the contents of stats.json."""
    return {
        "tool": TOOL,
        "level": LEVEL,
        "bootstrap_resamples": RESAMPLES,
        "iterations": c.cut,
        "notes": c.notes,
        "not_equal": [{"what": u.what, "values": u.values} for u in c.unequal],
        "methods": c.methods,
        "missing_seeds": c.missing,
        "arms": [_arm(c, arm) for arm in c.arms],
        "left_out": [{"folder": str(out.folder), "reason": out.reason} for out in c.left_out],
        "measures": {
            m.name: {"label": m.label, "direction": m.direction, "main": m.name in c.main}
            for m in c.measures
        },
        "results": [_result(r) for r in c.results],
        "frontiers": [_frontier(f) for f in c.frontiers],
        "frontier_gaps": [_frontier_gap(g) for g in c.gaps],
    }


def _result(r: Result) -> dict[str, Any]:
    return {
        "arm": r.arm.label,
        "measure": r.measure.name,
        "values": {str(seed): v for seed, v in r.values.items()},
        **asdict(r.summary),
        "baseline": r.baseline.label if r.baseline else None,
        "paired": as_json(r.paired),
        "p_holm": r.p_holm,
        "probability_of_improvement": r.improvement,
        "verdict": r.verdict,
    }


def _frontier(f: Frontier) -> dict[str, Any]:
    return {
        "method": f.method,
        "measure": f.measure,
        "arms": f.labels,
        "seeds": f.seeds,
        "points": f.points.tolist(),
        "reward": f.grid.tolist(),
        "frontier": f.curve.tolist(),
        "band": None if f.band is None else [end.tolist() for end in f.band],
    }


def _frontier_gap(gap: Gap) -> dict[str, Any]:
    """A method's measure, such as entropy, minus the baseline's at equal reward, for JSON."""
    return {
        "method": gap.method,
        "baseline": gap.baseline,
        "settings": gap.settings,
        "measure": gap.measure,
        "seeds": gap.seeds,
        "reward": gap.grid.tolist(),
        "gap": gap.gap.tolist(),
        "t_interval": None if gap.interval is None else [end.tolist() for end in gap.interval],
        "above": gap.above,
        "below": gap.below,
        "mean_gap": as_json(gap.mean),
        "p_holm": gap.p_holm,
        "verdict": gap.verdict,
        "statement": gap.statement,
    }


def _arm(c: Comparison, arm: Arm) -> dict[str, Any]:
    base = c.opponents[arm.label]
    runs = [
        {"seed": seed, "folder": str(run.folder), "status": run.status, "iterations": run.length}
        for seed, run in arm.runs.items()
    ]
    return {
        "arm": arm.label,
        "method": arm.method,
        "setting": {key: _json_value(value) for key, value in arm.setting.items()},
        "baseline": base.label if base else None,
        "runs": runs,
    }


def _json_value(value: Any) -> Any:
    """The value of a setting; an infinity or NaN, which JSON lacks, as text."""
    return shown(value) if isinstance(value, float) and not isfinite(value) else value


def show(comparison: Comparison, out: Path) -> None:
    """Print the main measures with their verdicts, the notes, and the path of the report."""
    console = Console()
    console.print(_table(comparison))
    if any(result.verdict for result in comparison.results):
        legend = "   ".join(f"{sign} {verdict}" for verdict, sign in SIGNS.items())
        console.print(legend, highlight=False)
    for line in [*_lines(comparison), f"report: {out / 'report.html'}"]:
        console.print(line, markup=False, highlight=False, soft_wrap=True)


def _lines(comparison: Comparison) -> list[str]:
    """Notes, frontiers, settings of each method, inequalities, missing seeds, left-out runs."""
    lines = list(comparison.notes)
    for gap in comparison.gaps:
        lines.append(f"frontier of {comparison.labels[gap.measure]}: {gap.statement}")
    if comparison.methods:
        lines.append("settings of each method, where they differ:")
    for method, parts in comparison.methods.items():
        words = "; ".join(f"{part} {settings}" for part, settings in parts.items())
        lines.append(f"  {method}: {words}")
    if comparison.unequal:
        names = "; ".join(inequality.what for inequality in comparison.unequal)
        lines.append(f"not equal between runs: {names}")
    for label, seeds in comparison.missing.items():
        lines.append(f"{label} lacks seed {', '.join(map(str, seeds))}")
    for left in comparison.left_out:
        lines.append(f"left out: {left.folder}: {left.reason}")
    return lines


def _table(comparison: Comparison) -> Table:
    """The main measures by arm, each with the sign of its verdict."""
    title = f"{len(comparison.runs)} runs after {comparison.cut} iterations"
    table = Table(title=title, title_justify="left")
    longest = max(len(arm.label) for arm in comparison.arms)
    table.add_column("arm", no_wrap=longest <= 30, overflow="fold")
    for name in comparison.main:
        label = comparison.labels[name].removesuffix(f", last {WINDOW}").removeprefix("held-out ")
        table.add_column(label, justify="right")
    results = comparison.by_arm_and_measure
    for arm in comparison.arms:
        cells = [_cell(results.get((arm.label, name))) for name in comparison.main]
        table.add_row(Text(arm.label), *cells)
    return table


def _cell(result: Result | None) -> Text:
    if result is None:
        return Text("-")
    return Text(f"{number(result.summary.mean)}{SIGNS[result.verdict] if result.verdict else ' '}")
