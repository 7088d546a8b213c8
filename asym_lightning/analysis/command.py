"""Lay finished runs side by side: `python compare.py logs/* --out report`; the report says how sure each comparison is."""

import argparse
import sys
from pathlib import Path

from asym_lightning.analysis.runs import Refused


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("paths", nargs="+", type=Path, metavar="LOGS", help="run folders, or folders that hold some")
    parser.add_argument("--out", type=Path, default=Path("report"), help="a new folder, or one of an earlier report (default: report)")
    parser.add_argument("--baseline", help="method or arm that the others are compared with (default: grpo, else the first)")
    parser.add_argument("--unfinished", action="store_true", help="also take runs that were interrupted or failed")
    given = parser.parse_args()
    try:
        compare(given.paths, given.out, given.baseline, given.unfinished)
    except Refused as error:
        print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        sys.exit(130)


def compare(paths: list[Path], out: Path, baseline: str | None, unfinished: bool) -> None:
    """Read, compare, write, show; the folder is touched only when there is something to compare."""
    from asym_lightning.analysis.comparison import lay_side_by_side  # scipy and matplotlib: not for --help
    from asym_lightning.analysis.outputs import claim, show, write
    from asym_lightning.analysis.runs import read_runs

    comparison = lay_side_by_side(*read_runs(paths, unfinished), baseline)
    claim(out)
    write(comparison, out)
    show(comparison, out)
