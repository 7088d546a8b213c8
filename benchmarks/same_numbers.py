"""Compare metrics.csv of runs before and after a change of the code, to the last digit.

    git worktree add ../before COMMIT
    (cd ../before && python benchmarks/same_numbers.py run ../runs_before)
    python benchmarks/same_numbers.py run ../runs_after
    python benchmarks/same_numbers.py compare ../runs_before ../runs_after

`run` takes about five minutes on two cores: the default run with seed 1, chain countdown with
seed 1, and the default run on two ranks. It prints their commands, for commits without this script.
Columns that measure time or memory differ from run to run, and are left out.
"""

import argparse
import csv
import shlex
import subprocess
import sys
from pathlib import Path

RUNS = {
    "default": "seed=1",
    "chain": "policy=chain task=chain seed=1",
    "ranks": (
        "seed=1 trainer=ddp trainer.accelerator=cpu trainer.precision=32-true trainer.devices=2"
    ),
}
MEASURED = ("time/", "time_share/", "throughput/", "memory/")


def run(folder: Path) -> None:
    """Start the three runs one behind the other, each in a folder of its name."""
    for name, overrides in RUNS.items():
        command = f"{sys.executable} train.py {overrides} hydra.run.dir={folder.resolve() / name}"
        print(command, flush=True)
        subprocess.run(shlex.split(command), check=True)


def table(path: Path) -> list[dict[str, str]]:
    """The rows of a metrics.csv as text, without the columns that measure time or memory."""
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    return [{k: v for k, v in row.items() if not k.startswith(MEASURED)} for row in rows]


def differences(before: list[dict[str, str]], after: list[dict[str, str]]) -> list[str]:
    """Rows and columns that differ, in a line each."""
    if len(before) != len(after):
        return [f"{len(before)} rows before, {len(after)} after"]
    lines = []
    for number, (old, new) in enumerate(zip(before, after, strict=True)):
        for column in sorted(old.keys() | new.keys()):
            if old.get(column) != new.get(column):
                lines.append(
                    f"row {number}, {column}: {old.get(column)} before, {new.get(column)} after"
                )
    return lines


def compare(before: Path, after: Path) -> int:
    """Print what differs between the runs of two folders; 1 if anything does."""
    status = 0
    for name in RUNS:
        old, new = (table(folder / name / "metrics.csv") for folder in (before, after))
        lines = differences(old, new)
        columns = len(old[0]) if old else 0
        print(f"{name}: {len(old)} rows, {columns} columns, {len(lines)} differences")
        print(*(f"  {line}" for line in lines[:10]), sep="\n", end="\n" if lines else "")
        status |= bool(lines) or not old
    return status


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("run").add_argument("folder", type=Path)
    both = commands.add_parser("compare")
    both.add_argument("before", type=Path)
    both.add_argument("after", type=Path)
    given = parser.parse_args()
    if given.command == "run":
        run(given.folder)
        return 0
    return compare(given.before, given.after)


if __name__ == "__main__":
    sys.exit(main())
