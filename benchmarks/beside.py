"""The cost of other programs on the machine to a run: `python benchmarks/beside.py`.

The default run, short, alone and beside as many busy processes as there are cores, with libgomp's
own spinning (300,000 turns of a loop in which the threads of an operation wait for each other) and
with asym-lightning's setting. Seconds of all iterations; the cases alternate.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from against.child import run

SPINNING = {"libgomp's own": "300000", "asym-lightning's": None}


def seconds(spinning: str | None, iterations: int) -> float:
    """Seconds of all iterations of a run."""
    os.environ.pop("GOMP_SPINCOUNT", None)
    if spinning is not None:
        os.environ["GOMP_SPINCOUNT"] = spinning
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        overrides = [
            f"trainer.max_epochs={iterations}",
            "callbacks.evaluation=null",
            f"hydra.run.dir={place / 'run'}",
        ]
        run(["train.py", *overrides], place / "log")
        return float(
            json.loads((place / "run" / "summary.json").read_text())["seconds_by_phase"][
                "iteration"
            ]
        )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--iterations", type=int, default=20)
    parser.add_argument("--repeats", type=int, default=3)
    given = parser.parse_args()
    for name in ("OMP_NUM_THREADS", "OMP_WAIT_POLICY"):
        os.environ.pop(name, None)
    for busy in (0, len(os.sched_getaffinity(0))):
        others = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(busy)]
        try:
            taken: dict[str, list[float]] = {name: [] for name in SPINNING}
            for _ in range(given.repeats):
                for name, spinning in SPINNING.items():
                    taken[name].append(seconds(spinning, given.iterations))
        finally:
            for other in others:
                other.kill()
        for name, values in taken.items():
            print(
                f"{busy} busy processes, {name}: median {statistics.median(values):.1f} s, "
                f"{min(values):.1f} to {max(values):.1f}",
                flush=True,
            )


if __name__ == "__main__":
    main()
