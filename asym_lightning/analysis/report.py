"""The report: one HTML file that opens offline, reads on a phone and prints. Text that came from runs is escaped by the template."""

import base64
import hashlib
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from asym_lightning.analysis.canvas import Picture
from asym_lightning.analysis.comparison import Comparison
from asym_lightning.analysis.statistics import Interval, Verdict

SIGNS = {
    Verdict.BETTER: "▲",
    Verdict.WORSE: "▼",
    Verdict.HIGHER: "↑",
    Verdict.LOWER: "↓",
    Verdict.NOT_SEPARATED: "≈",
    Verdict.TOO_FEW: "?",
}
# Clicking a column's head sorts by it; everything else works without.
SCRIPT = """
document.querySelectorAll("table.sortable").forEach(function (table) {
  table.querySelectorAll("thead th").forEach(function (head, column) {
    head.tabIndex = 0;
    function sort() {
      var up = head.getAttribute("aria-sort") !== "ascending", body = table.tBodies[0];
      table.querySelectorAll("thead th").forEach(function (other) { other.removeAttribute("aria-sort"); });
      head.setAttribute("aria-sort", up ? "ascending" : "descending");
      function key(row) {
        var cell = row.cells[column], text = cell.dataset.value || cell.textContent.trim().replace("\\u2212", "-");
        var number = parseFloat(text);
        return isNaN(number) ? text.toLowerCase() : number;
      }
      Array.from(body.rows).sort(function (a, b) {
        var x = key(a), y = key(b);
        if (typeof x !== typeof y) { return typeof x === "number" ? -1 : 1; }
        return (x < y ? -1 : x > y ? 1 : 0) * (up ? 1 : -1);
      }).forEach(function (row) { body.appendChild(row); });
    }
    head.addEventListener("click", sort);
    head.addEventListener("keydown", function (event) { if (event.key === "Enter") { sort(); } });
  });
});
"""


def page(comparison: Comparison, sections: Sequence[tuple[str, list[Picture]]], colours: dict[str, str]) -> str:
    """The text of the report.

    Args:
        sections: title and pictures of each part.
        colours: of each method, as in the pictures.
    """
    environment = Environment(loader=FileSystemLoader(Path(__file__).parent), autoescape=True, undefined=StrictUndefined, trim_blocks=True)
    environment.filters["base64"] = lambda data: base64.b64encode(data).decode()
    of = {(r.arm.label, r.measure.name): r for r in comparison.results}
    return environment.get_template("report.html").render(
        c=comparison,
        title="Comparison of " + _named(list(dict.fromkeys(arm.method for arm in comparison.arms))),
        version=_version(),
        main=[next(m for m in comparison.measures if m.name == name) for name in comparison.main],
        others=[m for m in comparison.measures if m.name not in comparison.main],
        labels={m.name: m.label for m in comparison.measures},
        matrix=[
            {
                "arm": arm,
                "baseline": comparison.opponents[arm.label] is arm,
                "colour": colours[arm.method],
                "results": [of.get((arm.label, name)) for name in comparison.main],
            }
            for arm in comparison.arms
        ],
        swept=sorted({key for arm in comparison.arms for key in arm.setting}),
        said=said(comparison),
        shared=sorted(set.intersection(*(set(arm.runs) for arm in comparison.arms))),
        sections=sections,
        signs=SIGNS,
        script=SCRIPT,
        script_hash=base64.b64encode(hashlib.sha256(SCRIPT.encode()).digest()).decode(),
        number=number,
        signed=signed,
        interval=interval,
        p=p_value,
    )


def said(comparison: Comparison) -> list[str]:
    """For each arm that is compared one line: in which measures it differs, and in how many it does not."""
    lines = []
    for arm in comparison.arms:
        found: dict[Verdict, list[str]] = {}
        for r in comparison.results:
            if r.arm is arm and r.verdict:
                found.setdefault(r.verdict, []).append(r.measure.label)
        open_questions = [v for v in (Verdict.NOT_SEPARATED, Verdict.TOO_FEW) if v in found]
        parts = [f"{v} in {', '.join(found[v])}" for v in found if v not in open_questions]
        for v in open_questions:
            count = len(found[v])
            parts.append(f"{v} in {'the other ' if parts else 'all '}{count} measures" if count > 1 else f"{v} in {found[v][0]}")
        if parts:
            base = comparison.opponents[arm.label]
            lines.append(f"{arm.label} against {base.label if base else '?'}: {'; '.join(parts)}.")
    return lines


def number(value: float) -> str:
    """Three decimals for what is of the order of 1, fewer for large numbers, an exponent for tiny ones."""
    value = value if abs(value) > 1e-9 else 0.0  # rounding, not a number worth an exponent
    size = abs(value)
    form = ".0f" if size >= 1000 else ".1f" if size >= 10 else ".1e" if 0 < size < 5e-4 else ".3f"
    return f"{value:{form}}".replace("-", "\u2212")


def signed(value: float) -> str:
    return number(value) if value < 0 else f"+{number(value)}"


def interval(ends: Interval | None, with_sign: bool = False) -> str:
    """Both ends, or a dash."""
    return "–" if ends is None else " to ".join((signed if with_sign else number)(end) for end in ends)


def p_value(p: float | None) -> str:
    return "–" if p is None else "<0.001" if p < 0.001 else f"{p:.3f}"


def _named(methods: Sequence[str]) -> str:
    if len(methods) > 4:
        return f"{len(methods)} methods"
    return " and ".join(filter(None, [", ".join(methods[:-1]), methods[-1]]))


def _version() -> str:
    try:
        return version("asym-lightning")
    except PackageNotFoundError:
        return "(not installed)"
