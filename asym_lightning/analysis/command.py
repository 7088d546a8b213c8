"""Compare finished runs: `python compare.py logs/* --out report`.

The report says how sure each comparison is.
"""

import argparse
import sys
from pathlib import Path

from asym_lightning.analysis.runs import ComparisonError


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "paths", nargs="+", type=Path, metavar="LOGS", help="run folders, or folders that hold some"
    )
    parser.add_argument(
        "--out",
        type=Path,
        default=Path("report"),
        help="a new folder, or one of an earlier report (default: report)",
    )
    parser.add_argument(
        "--baseline",
        help="method or arm that the others are compared with (default: grpo, else the first)",
    )
    parser.add_argument(
        "--unfinished", action="store_true", help="also take runs that were interrupted or failed"
    )
    options = parser.parse_args()
    try:
        compare(options.paths, options.out, options.baseline, unfinished=options.unfinished)
    except ComparisonError as error:
        print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        sys.exit(130)


def compare(paths: list[Path], out: Path, baseline: str | None, unfinished: bool) -> None:
    """Read the runs, compare them, write the report and show the main results.

    The folder ``out`` is touched only if there is something to compare.
    """
    # These import scipy and matplotlib, which --help does not need.
    from asym_lightning.analysis.comparison import lay_side_by_side
    from asym_lightning.analysis.outputs import claim, show, write
    from asym_lightning.analysis.runs import read_runs

    comparison = lay_side_by_side(*read_runs(paths, unfinished), baseline)
    claim(out)
    write(comparison, out)
    show(comparison, out)
