"""From what the two sides wrote to ratios, a JSON file and a table."""

import os
import platform
import statistics
from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

PHASES = ("generate", "learn", "rest", "step")
PROCESSOR = {
    "processor_learn": "learn, s of the processors",
    "processor_step": "step, s of the processors",
}
RATIOS = ("step", "learn", "peak_memory")
Side = dict[str, Any]


def summarised(result: Mapping[str, Any], warmup: int) -> Side:
    """Median, smallest and largest of each phase over the steps after ``warmup``.

    ``rest`` is a step's time outside of the other phases. Memory is that of the process from its
    start, warm-up included.
    """
    rows = [{**row, "rest": row["step"] - row["generate"] - row["learn"]} for row in result["rows"]]
    kept = rows[warmup:]
    side: Side = {
        name: {
            "median": statistics.median(values),
            "min": min(values),
            "max": max(values),
            "mean": statistics.mean(values),
        }
        for name in (*PHASES, *PROCESSOR)
        for values in [[row[name] for row in kept]]
    }
    side["tokens"] = statistics.median(row["tokens"] for row in kept)
    side["tokens_per_s"] = sum(row["tokens"] for row in kept) / sum(row["step"] for row in kept)
    side["longest"] = statistics.median(row["longest"] for row in kept)
    side["without_signal"] = statistics.mean(row["without_signal"] for row in kept)
    side["learn_peak_mib"] = max(row["learn_peak_mib"] for row in rows)
    return {
        **side,
        **{key: result[key] for key in ("peak_mib", "ready_mib", "threads", "moved")},
        "rows": rows,
    }


def ratios(trl: Side, ours: Side) -> dict[str, float]:
    """TRL divided by ours; of tokens per second, ours divided by TRL's."""
    found = {
        phase: trl[phase]["median"] / ours[phase]["median"]
        for phase in ("step", "learn", "generate", *PROCESSOR)
    }
    memory = {
        "peak_memory": trl["peak_mib"] / ours["peak_mib"],
        "learn_peak_memory": trl["learn_peak_mib"] / ours["learn_peak_mib"],
    }
    return {**found, **memory, "tokens_per_s": ours["tokens_per_s"] / trl["tokens_per_s"]}


def record(
    trl: Mapping[str, Side | str], ours: Mapping[str, Side], about: Mapping[str, Any]
) -> dict[str, Any]:
    """The contents of the JSON file.

    ``trl`` has a side for each way of making completions, or why it has no numbers; ``ratio`` is
    of the first of them and the first signal of ``ours``.
    """
    found = {
        way: {signal: ratios(trl_side, side) for signal, side in ours.items()}
        for way, trl_side in trl.items()
        if not isinstance(trl_side, str)
    }
    first = found[next(iter(trl))][next(iter(ours))]
    return {
        "ratio": {name: first[name] for name in RATIOS},
        "ratios": found,
        "trl": dict(trl),
        "ours": dict(ours),
        **about,
    }


def sides_of(made: Mapping[str, Any]) -> dict[str, Side]:
    """Every side that has numbers, TRL's first."""
    ways = {f"TRL, {way}": side for way, side in made["trl"].items() if not isinstance(side, str)}
    return ways | {f"ours, {signal}": side for signal, side in made["ours"].items()}


LINES: dict[str, Callable[[Side], str]] = {
    **{f"{phase}, s": lambda side, p=phase: spread(side[p]) for phase in PHASES},
    **{name: lambda side, p=phase: spread(side[p]) for phase, name in PROCESSOR.items()},
    "tokens made a step": lambda side: f"{side['tokens']:.0f}",
    "tokens per s of a step": lambda side: f"{side['tokens_per_s']:.0f}",
    "longest completion": lambda side: f"{side['longest']:.0f}",
    "groups without a signal": lambda side: f"{side['without_signal']:.0%}",
    "weights that moved": lambda side: f"{side['moved']:.1%}",
    "peak memory, MiB": lambda side: f"{side['peak_mib']:.0f}",
    "  before the first step": lambda side: f"{side['ready_mib']:.0f}",
    "  while it learns": lambda side: f"{side['learn_peak_mib']:.0f}",
}


def spread(of: Mapping[str, float]) -> str:
    return f"{of['median']:.2f} ({of['min']:.2f} to {of['max']:.2f})"


def tables(made: Mapping[str, Any]) -> tuple[Table, Table]:
    """The tables for the terminal: the numbers of the sides, and their ratios."""
    title = f"TRL {made['versions']['trl']} and asym-lightning, size {made['size']}"
    sides = sides_of(made)
    numbers = Table(title=f"{title}: median (smallest to largest) of the steps")
    for name in ("", *sides):
        numbers.add_column(name, justify="right" if name else "left")
    for name, cell in LINES.items():
        numbers.add_row(name, *(cell(side) for side in sides.values()))
    shown = list(next(iter(made["ratios"][next(iter(made["trl"]))].values())))
    quotients = Table(title=f"{title}: TRL divided by ours (tokens_per_s: ours divided by TRL's)")
    for name in ("TRL", "ours", *shown):
        quotients.add_column(name, justify="right" if name in shown else "left")
    for way, signals in made["ratios"].items():
        for signal, values in signals.items():
            quotients.add_row(way, signal, *(f"{values[name]:.2f}" for name in shown))
    return numbers, quotients


COLUMNS = (
    "size",
    "side",
    "generate, s",
    "learn, s",
    "step, s",
    "peak memory, MiB",
    "learn, ratio to ours",
    "step, ratio to ours",
)


def markdown(made: Mapping[str, Any]) -> str:
    """Head and rows of the table of docs/performance_trl.md.

    Ratios are to each of our signals, in their order.
    """
    rows = []
    for name, side in sides_of(made).items():
        of = (
            made["ratios"].get(name.removeprefix("TRL, "), {}).values()
            if name.startswith("TRL")
            else ()
        )
        cells = [f"{side[phase]['median']:.2f}" for phase in ("generate", "learn", "step")]
        ratio = [" / ".join(f"{one[phase]:.2f}" for one in of) for phase in ("learn", "step")]
        rows.append([f"`{made['size']}`", name, *cells, f"{side['peak_mib']:.0f}", *ratio])
    return "".join(
        "| " + " | ".join(row) + " |\n" for row in (COLUMNS, ["---"] * len(COLUMNS), *rows)
    )


def tries_table(title: str, rows: Mapping[str, Side | str]) -> Table:
    """A line per try: seconds and memory, or the reason of its failure."""
    shown = Table(title=title)
    for name in (
        "",
        "generate, s",
        "learn, s",
        "step, s",
        "learn, processor s",
        "step, processor s",
        "tokens",
        "peak, MiB",
    ):
        shown.add_column(name, justify="right" if name else "left")
    for name, side in rows.items():
        if isinstance(side, str):
            shown.add_row(name, f"failed: {side}")
        else:
            seconds = [
                f"{side[phase]['median']:.2f}"
                for phase in ("generate", "learn", "step", *PROCESSOR)
            ]
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
