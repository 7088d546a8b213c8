"""The report: one HTML file that opens offline, fits a phone and prints.

The template escapes text that comes from runs.
"""

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
# Sorts a table by a column when its head is clicked; nothing else in the report needs a script.
SCRIPT = """
document.querySelectorAll("table.sortable").forEach(function (table) {
  table.querySelectorAll("thead th").forEach(function (head, column) {
    head.tabIndex = 0;
    function sort() {
      var up = head.getAttribute("aria-sort") !== "ascending", body = table.tBodies[0];
      table.querySelectorAll("thead th").forEach(function (other) {
        other.removeAttribute("aria-sort");
      });
      head.setAttribute("aria-sort", up ? "ascending" : "descending");
      function key(row) {
        var cell = row.cells[column];
        var text = cell.dataset.value || cell.textContent.trim().replace("\\u2212", "-");
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


def page(
    comparison: Comparison, sections: Sequence[tuple[str, list[Picture]]], colours: dict[str, str]
) -> str:
    """Return the text of the report.

    Args:
        sections: title and pictures of each section.
        colours: colour of each method, as in the pictures.
    """
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
    )
    environment.filters["base64"] = lambda data: base64.b64encode(data).decode()
    results = comparison.by_arm_and_measure
    by_name = {measure.name: measure for measure in comparison.measures}
    rows = [
        {
            "arm": arm,
            "baseline": comparison.opponents[arm.label] is arm,
            "colour": colours[arm.method],
            "results": [results.get((arm.label, name)) for name in comparison.main],
        }
        for arm in comparison.arms
    ]
    return environment.get_template("report.html").render(
        c=comparison,
        title="Comparison of " + _named(list(dict.fromkeys(arm.method for arm in comparison.arms))),
        version=_version(),
        main=[by_name[name] for name in comparison.main],
        others=[m for m in comparison.measures if m.name not in comparison.main],
        labels=comparison.labels,
        matrix=rows,
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
    """Return a line for each arm that is compared.

    It names the measures in which the arm differs from its baseline, and counts the others.
    """
    lines = []
    for arm in comparison.arms:
        labels: dict[Verdict, list[str]] = {}
        for result in comparison.results:
            if result.arm is arm and result.verdict:
                labels.setdefault(result.verdict, []).append(result.measure.label)
        undecided = [v for v in (Verdict.NOT_SEPARATED, Verdict.TOO_FEW) if v in labels]
        parts = [f"{v} in {', '.join(labels[v])}" for v in labels if v not in undecided]
        for v in undecided:
            measures = labels[v][0]
            if len(labels[v]) > 1:
                measures = f"{'the other' if parts else 'all'} {len(labels[v])} measures"
            parts.append(f"{v} in {measures}")
        if parts:
            base = comparison.opponents[arm.label]
            lines.append(f"{arm.label} against {base.label if base else '?'}: {'; '.join(parts)}.")
    return lines


def number(value: float) -> str:
    """Write a number of the order of 1 with three decimals, large numbers with fewer.

    Tiny numbers get an exponent, except those as small as rounding errors, which are written as 0.
    """
    value = value if abs(value) > 1e-9 else 0.0
    size = abs(value)
    form = ".0f" if size >= 1000 else ".1f" if size >= 10 else ".1e" if 0 < size < 5e-4 else ".3f"
    return f"{value:{form}}".replace("-", "\u2212")


def signed(value: float) -> str:
    return number(value) if value < 0 else f"+{number(value)}"


def interval(ends: Interval | None, with_sign: bool = False) -> str:
    """Write both ends of an interval; a dash stands for no interval."""
    if ends is None:
        return "–"
    write = signed if with_sign else number
    return " to ".join(write(end) for end in ends)


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
