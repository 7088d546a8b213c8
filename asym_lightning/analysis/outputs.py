"""What a comparison leaves behind: report.html, figures/, table.csv, stats.json, and a table for the terminal."""

import csv
import json
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
from asym_lightning.analysis.measures import WINDOW
from asym_lightning.analysis.report import SIGNS, number, page
from asym_lightning.analysis.runs import Refused
from asym_lightning.analysis.statistics import LEVEL, RESAMPLES, Interval, as_json

TOOL = "asym-lightning compare"


def claim(out: Path) -> None:
    """Make the folder; of an earlier report there the figures are removed and the rest is overwritten.

    Raises:
        Refused: something else is in it, or it cannot be made.
    """
    if out.exists() and not out.is_dir():
        raise Refused(f"--out {out}: it is a file; name a folder")
    if out.is_dir() and any(out.iterdir()):
        try:
            earlier = json.loads((out / "stats.json").read_text(encoding="utf-8"))["tool"] == TOOL
        except (OSError, ValueError, TypeError, KeyError):
            earlier = False
        if not earlier:
            raise Refused(f"--out {out}: the folder is not empty and holds no earlier report; name a new one")
        for old in (out / "figures").glob("*.[ps][nv]g"):
            old.unlink()
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise Refused(f"--out {out}: {error.strerror}") from None


def write(comparison: Comparison, out: Path) -> None:
    """Draw and write everything into ``out``."""
    canvas = Canvas(comparison.arms, comparison.opponents, out / "figures")
    sections = draw_all(comparison, canvas)
    (out / "report.html").write_text(page(comparison, sections, canvas.colour), encoding="utf-8")
    with (out / "table.csv").open("w", newline="", encoding="utf-8") as file:
        rows = [_row(result) for result in comparison.results]
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    (out / "stats.json").write_text(json.dumps(statistics(comparison), indent=1, allow_nan=False), encoding="utf-8")


def _row(r: Result) -> dict[str, Any]:
    """One line of table.csv; empty where there is no such number."""

    def ends(name: str, interval: Interval | None) -> dict[str, float | None]:
        low, high = interval or (None, None)
        return {f"{name}_low": low, f"{name}_high": high}

    pair, better = r.paired, r.improvement or (None, None)
    return {
        "arm": r.arm.label,
        "method": r.arm.method,
        "measure": r.measure.name,
        "better_is": {1: "higher", -1: "lower", 0: ""}[r.measure.direction],
        "seeds": r.summary.n,
        "mean": r.summary.mean,
        "std": r.summary.std,
        **ends("mean", r.summary.interval),
        "iqm": r.summary.iqm,
        **ends("iqm", r.summary.iqm_interval),
        "baseline": r.baseline.label if r.baseline else None,
        "shared_seeds": pair.n if pair else None,
        "difference": pair.difference if pair else None,
        **ends("difference_t", pair.t_interval if pair else None),
        **ends("difference_bootstrap", pair.bootstrap_interval if pair else None),
        "p_t": pair.p_t if pair else None,
        "p_holm": r.p_holm,
        "p_sign_flip": pair.p_sign_flip if pair else None,
        "smallest_p_sign_flip": pair.smallest_p if pair else None,
        "probability_of_improvement": better[0],
        **ends("probability_of_improvement", better[1]),
        "verdict": r.verdict,
    }


def statistics(c: Comparison) -> dict[str, Any]:
    """The contents of stats.json."""
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
        "measures": {m.name: {"label": m.label, "direction": m.direction, "main": m.name in c.main} for m in c.measures},
        "results": [
            {
                "arm": r.arm.label,
                "measure": r.measure.name,
                "values": {str(seed): v for seed, v in r.values.items()},
                **(as_json(r.summary) or {}),
                "baseline": r.baseline.label if r.baseline else None,
                "paired": as_json(r.paired),
                "p_holm": r.p_holm,
                "probability_of_improvement": r.improvement,
                "verdict": r.verdict,
            }
            for r in c.results
        ],
        "frontiers": [
            {
                "method": f.method,
                "measure": f.measure,
                "arms": f.labels,
                "seeds": f.seeds,
                "points": f.points.tolist(),
                "reward": f.grid.tolist(),
                "frontier": f.curve.tolist(),
                "band": None if f.band is None else [end.tolist() for end in f.band],
            }
            for f in c.frontiers
        ],
        "frontier_gaps": [
            {
                "method": g.method,
                "baseline": g.baseline,
                "settings": g.settings,
                "measure": g.measure,
                "seeds": g.seeds,
                "reward": g.grid.tolist(),
                "gap": g.gap.tolist(),
                "t_interval": None if g.interval is None else [end.tolist() for end in g.interval],
                "above": g.above,
                "below": g.below,
                "mean_gap": as_json(g.mean),
                "p_holm": g.p_holm,
                "verdict": g.verdict,
                "statement": g.statement,
            }
            for g in c.gaps
        ],
    }


def _arm(c: Comparison, arm: Arm) -> dict[str, Any]:
    base = c.opponents[arm.label]
    return {
        "arm": arm.label,
        "method": arm.method,
        "setting": {key: shown(v) if isinstance(v, float) and not isfinite(v) else v for key, v in arm.setting.items()},
        "baseline": base.label if base else None,
        "runs": [
            {"seed": seed, "folder": str(run.folder), "status": run.status, "iterations": run.length} for seed, run in arm.runs.items()
        ],
    }


def show(comparison: Comparison, out: Path) -> None:
    """The main measures with their verdicts, and where the report is, on the terminal."""
    console = Console()
    table = Table(title=f"{len(comparison.runs)} runs after {comparison.cut} iterations", title_justify="left")
    table.add_column("arm", no_wrap=max(len(arm.label) for arm in comparison.arms) <= 30, overflow="fold")
    known = {m.name: m for m in comparison.measures}
    for name in comparison.main:
        table.add_column(known[name].label.removesuffix(f", last {WINDOW}").removeprefix("held-out "), justify="right")
    of = {(r.arm.label, r.measure.name): r for r in comparison.results}
    for arm in comparison.arms:
        table.add_row(Text(arm.label), *(_cell(of.get((arm.label, name))) for name in comparison.main))
    console.print(table)
    if any(r.verdict for r in comparison.results):
        console.print("   ".join(f"{sign} {verdict}" for verdict, sign in SIGNS.items()), highlight=False)
    for line in comparison.notes + [f"frontier of {known[gap.measure].label}: {gap.statement}" for gap in comparison.gaps]:
        console.print(line, markup=False, highlight=False, soft_wrap=True)
    if comparison.methods:
        console.print("settings of each method, where they differ:", markup=False, highlight=False)
    for method, parts in comparison.methods.items():
        words = "; ".join(f"{part} {told}" for part, told in parts.items())
        console.print(f"  {method}: {words}", markup=False, highlight=False, soft_wrap=True)
    if comparison.unequal:
        what = "; ".join(u.what for u in comparison.unequal)
        console.print(f"not equal between runs: {what}", markup=False, highlight=False, soft_wrap=True)
    for label, seeds in comparison.missing.items():
        console.print(f"{label} lacks seed {', '.join(map(str, seeds))}", markup=False, highlight=False, soft_wrap=True)
    for left in comparison.left_out:
        console.print(f"left out: {left.folder}: {left.reason}", markup=False, highlight=False, soft_wrap=True)
    console.print(f"report: {out / 'report.html'}", markup=False, highlight=False, soft_wrap=True)


def _cell(result: Result | None) -> Text:
    if result is None:
        return Text("-")
    return Text(f"{number(result.summary.mean)}{SIGNS[result.verdict] if result.verdict else ' '}")
