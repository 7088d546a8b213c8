"""From what the two sides wrote to ratios, a JSON file and a table."""

import os
import platform
import statistics
from collections.abc import Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

PHASES = ("generate", "learn", "rest", "step")
PROCESSOR = {"processor_learn": "learn, s of the processors", "processor_step": "step, s of the processors"}
RATIOS = ("step", "learn", "peak_memory")
Side = dict[str, Any]


def summarised(result: Mapping[str, Any], warmup: int) -> Side:
    """Median, smallest and largest of each phase over the steps after ``warmup``; ``rest`` is what is neither of the others. Memory is
    that of the whole process, its start and warm-up included."""
    rows = [{**row, "rest": row["step"] - row["generate"] - row["learn"]} for row in result["rows"]]
    kept = rows[warmup:]
    side: Side = {
        name: {"median": statistics.median(values), "min": min(values), "max": max(values), "mean": statistics.mean(values)}
        for name in (*PHASES, *PROCESSOR)
        for values in [[row[name] for row in kept]]
    }
    side["tokens"] = statistics.median(row["tokens"] for row in kept)
    side["tokens_per_s"] = sum(row["tokens"] for row in kept) / sum(row["step"] for row in kept)
    side["longest"] = statistics.median(row["longest"] for row in kept)
    side["without_signal"] = statistics.mean(row["without_signal"] for row in kept)
    side["learn_peak_mib"] = max(row["learn_peak_mib"] for row in rows)
    return {**side, "peak_mib": result["peak_mib"], "ready_mib": result["ready_mib"], "threads": result["threads"], "rows": rows}


def ratios(trl: Side, ours: Side) -> dict[str, float]:
    """TRL divided by ours; of tokens per second, ours divided by TRL's."""
    found = {phase: trl[phase]["median"] / ours[phase]["median"] for phase in ("step", "learn", "generate", *PROCESSOR)}
    memory = {"peak_memory": trl["peak_mib"] / ours["peak_mib"], "learn_peak_memory": trl["learn_peak_mib"] / ours["learn_peak_mib"]}
    return {**found, **memory, "tokens_per_s": ours["tokens_per_s"] / trl["tokens_per_s"]}


def record(trl: Side, repaired: Side | str, ours: Mapping[str, Side], about: Mapping[str, Any]) -> dict[str, Any]:
    """The contents of the JSON file; ``ratio`` belongs to the first signal of ``ours``. ``repaired`` is TRL with vLLM, or why it has
    no numbers."""
    by_signal = {signal: ratios(trl, side) for signal, side in ours.items()}
    made = {"ratio": {name: next(iter(by_signal.values()))[name] for name in RATIOS}, "ratios": by_signal}
    if not isinstance(repaired, str):
        made["ratios_repaired"] = {signal: ratios(repaired, side) for signal, side in ours.items()}
    return {**made, "trl": trl, "trl_repaired": repaired, "ours": dict(ours), **about}


def table(made: Mapping[str, Any]) -> Table:
    """What the terminal shows."""
    trl, repaired, ours = made["trl"], made["trl_repaired"], made["ours"]
    shown = Table(title=f"TRL {made['versions']['trl']} and asym-lightning, size {made['size']}: median (smallest to largest)")
    columns = ["", "TRL", "TRL, vLLM repaired"]
    for signal in ours:
        columns += [f"ours, {signal}", "TRL / ours", "repaired / ours"]
    for name in columns:
        shown.add_column(name, justify="right" if name else "left")

    def line(name: str, cell: Any, ratio: str | None = None) -> None:
        cells = [name, cell(trl), "failed" if isinstance(repaired, str) else cell(repaired)]
        for signal, side in ours.items():
            of = [made[key][signal].get(ratio) if key in made else None for key in ("ratios", "ratios_repaired")]
            cells += [cell(side), *("" if one is None else f"{one:.2f}" for one in of)]
        shown.add_row(*cells)

    for phase in PHASES:
        line(f"{phase}, s", lambda side, p=phase: _spread(side[p]), phase)
    for phase, name in PROCESSOR.items():
        line(name, lambda side, p=phase: _spread(side[p]), phase)
    line("tokens made a step", lambda side: f"{side['tokens']:.0f}")
    line("tokens per s of a step", lambda side: f"{side['tokens_per_s']:.0f}", "tokens_per_s")
    line("longest completion", lambda side: f"{side['longest']:.0f}")
    line("groups without a signal", lambda side: f"{side['without_signal']:.0%}")
    line("peak memory, MiB", lambda side: f"{side['peak_mib']:.0f}", "peak_memory")
    line("  before the first step", lambda side: f"{side['ready_mib']:.0f}")
    line("  while it learns", lambda side: f"{side['learn_peak_mib']:.0f}", "learn_peak_memory")
    return shown


def _spread(of: Mapping[str, float]) -> str:
    return f"{of['median']:.2f} ({of['min']:.2f} to {of['max']:.2f})"


PAIRS = ("generate, s", "learn, s", "step, s", "peak memory, MiB")
COLUMNS = ("size, signal", *(f"{what}: TRL / repaired / ours" for what in PAIRS), "learn: ratios", "step: ratios")


def markdown(made: Mapping[str, Any]) -> str:
    """Head and rows of the table of docs/performance_trl.md, one row per signal."""
    rows = []
    for signal, ours in made["ours"].items():
        sides = [made["trl"], *([] if isinstance(made["trl_repaired"], str) else [made["trl_repaired"]]), ours]
        cells = [" / ".join(f"{side[phase]['median']:.2f}" for side in sides) for phase in ("generate", "learn", "step")]
        cells.append(" / ".join(f"{side['peak_mib']:.0f}" for side in sides))
        found = [made[key][signal] for key in ("ratios", "ratios_repaired") if key in made]
        cells += [", ".join(f"{one[phase]:.2f}" for one in found) for phase in ("learn", "step")]
        rows.append([f"`{made['size']}`, {signal}", *cells])
    return "".join("| " + " | ".join(row) + " |\n" for row in (COLUMNS, ["---"] * len(COLUMNS), *rows))


def tries_table(title: str, rows: Mapping[str, Side | str]) -> Table:
    """One line per try: seconds and memory, or why there are none."""
    shown = Table(title=title)
    for name in ("", "generate, s", "learn, s", "step, s", "learn, processor s", "step, processor s", "tokens", "peak, MiB"):
        shown.add_column(name, justify="right" if name else "left")
    for name, side in rows.items():
        if isinstance(side, str):
            shown.add_row(name, f"failed: {side}")
        else:
            seconds = [f"{side[phase]['median']:.2f}" for phase in ("generate", "learn", "step", *PROCESSOR)]
            shown.add_row(name, *seconds, f"{side['tokens']:.0f}", f"{side['peak_mib']:.0f}")
    return shown


def show(*parts: Table | str) -> None:
    console = Console(width=max(200, Console().width))
    for part in parts:
        console.print(part, highlight=False, soft_wrap=isinstance(part, str))


def versions(names: Sequence[str]) -> dict[str, str]:
    """Versions of the installed ones of ``names``."""
    found = {"python": platform.python_version()}
    for name in names:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def machine() -> dict[str, Any]:
    """Processor, cores, memory, and how busy it is now."""
    info = Path("/proc/cpuinfo")
    told: dict[str, str] = {}
    for line in info.read_text().splitlines() if info.exists() else []:
        key, _, value = line.partition(":")
        told.setdefault(key.strip(), value.strip())
    return {
        "processor": told.get("model name") or platform.processor(),
        "bf16": sorted(set(told.get("flags", "").split()) & {"avx512_bf16", "amx_bf16"}),
        "cores": os.cpu_count(),
        "system": platform.platform(),
        "load": os.getloadavg() if hasattr(os, "getloadavg") else None,
    }
