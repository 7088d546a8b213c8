"""Make the missing runs of the study, then write its page: `python -m benchmarks.study`.

With --quick it takes a few minutes. The runs go below --folder, their numbers into runs.csv beside
the page; everything else is made from runs.csv.
"""

import argparse
import os
import subprocess
import sys
from pathlib import Path

import pandas as pd

from benchmarks.study import claims
from benchmarks.study.figures import draw_all
from benchmarks.study.judge import rule
from benchmarks.study.page import count, write
from benchmarks.study.plan import FULL, QUICK, ROOT, Part, pending
from benchmarks.study.records import collect, load, save, tidy


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.study", description=__doc__)
    parser.add_argument(
        "--quick",
        action="store_true",
        help="three methods over five learning rates, three seeds, short runs",
    )
    parser.add_argument(
        "--parts",
        nargs="+",
        default=[],
        metavar="NAME",
        help=f"some of: {' '.join(part.name for part in FULL)}",
    )
    parser.add_argument("--seeds", nargs="+", type=int, default=[], help="some of the seeds")
    parser.add_argument(
        "--parallel", type=int, default=2, help="runs at a time, one thread each (default: 2)"
    )
    parser.add_argument(
        "--folder",
        type=Path,
        default=ROOT / "logs" / "study",
        help="where the runs go (default: logs/study)",
    )
    parser.add_argument(
        "--out",
        type=Path,
        default=ROOT / "docs" / "results",
        help="where the page goes (default: docs/results)",
    )
    parser.add_argument(
        "--resume",
        action="store_true",
        help="take the numbers in runs.csv for runs that are not in the folder",
    )
    parser.add_argument(
        "--report", action="store_true", help="run nothing; write the page of what is there"
    )
    given = parser.parse_args()
    plan, judged, name = (
        (QUICK, claims.QUICK, "study_quick") if given.quick else (FULL, claims.FULL, "study")
    )
    if unknown := set(given.parts) - {part.name for part in plan}:
        parser.error(
            f"--parts {' '.join(sorted(unknown))}: there are {' '.join(part.name for part in plan)}"
        )
    page, table = given.out / f"{name}.md", given.out / name / "runs.csv"
    kept = load(table) if given.resume or given.report else pd.DataFrame()
    failed = []
    if not given.report:
        chosen = [part for part in plan if not given.parts or part.name in given.parts]
        failed = [
            part.name
            for part in chosen
            if not run(part, given.seeds, kept, given.folder.resolve(), given.parallel)
        ]
    found, said = collect(plan, given.folder)
    print(*said, sep="\n", end="\n" if said else "")
    rows = (
        tidy(pd.concat([table for table in (kept, found) if len(table)]))
        if len(kept) or len(found)
        else found
    )
    if rows.empty:
        sys.exit(f"error: no finished run in {given.folder}")
    table.parent.mkdir(parents=True, exist_ok=True)
    save(rows, table)
    rows = tidy(load(table))  # as a later report reads them: the same numbers to the digit
    families = {family: rule(members, rows) for family, members in judged.items()}
    title = (
        "The study in short: three methods, short runs"
        if given.quick
        else "The study: the paper's claims on two small testbeds"
    )
    command = "make study-quick" if given.quick else "make study"
    write(title, command, plan, rows, families, draw_all(rows, table.parent), page)
    print(f"{len(rows)} runs; claims: {count(families)}\n{page}")
    if failed:
        sys.exit(f"error: runs failed in {', '.join(failed)}; the same command starts them again")


def run(part: Part, seeds: list[int], kept: pd.DataFrame, folder: Path, parallel: int) -> bool:
    """Run what is missing of a part. Whether all went well."""
    done = (
        [(str(p), int(s)) for p, s in zip(kept["part"], kept["seed"], strict=True)]
        if len(kept)
        else []
    )
    wanted = pending(part, seeds, done)
    if not wanted:
        return True
    print(f"{part.name}: {part.arms * len(wanted)} runs", flush=True)
    command = part.command(wanted, folder, parallel)
    return (
        subprocess.run(
            command, cwd=ROOT, env={**os.environ, "OMP_NUM_THREADS": "1"}, check=False
        ).returncode
        == 0
    )


if __name__ == "__main__":
    main()
