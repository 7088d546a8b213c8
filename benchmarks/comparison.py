"""Time and peak memory of compare.py on synthetic runs.

`python benchmarks/comparison.py --methods 12 --seeds 5 --iterations 500` makes the runs (every
column of a real metrics.csv) in a temporary folder, then runs `compare.py` on them as a user would.
"""

import argparse
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from tests.support.synthetic import write_run  # noqa: E402


def make(folder: Path, methods: int, seeds: int, iterations: int, rates: list[float]) -> int:
    """Write methods times rates times seeds runs; returns how many."""
    names = sorted(path.stem for path in (ROOT / "conf" / "algo").glob("*.yaml"))
    chosen = ["grpo", *[name for name in names if name != "grpo"]][:methods]
    rng = np.random.default_rng(0)
    for i, name in enumerate(chosen):
        for rate in rates:
            for seed in range(1, seeds + 1):
                reward, entropy, unsolved = rng.normal(
                    (0.6 + 0.01 * i, 0.2 - 0.005 * i, 0.1), (0.02, 0.01, 0.01)
                )
                write_run(
                    folder / f"{name}-{rate}-seed{seed}",
                    name,
                    seed,
                    iterations=iterations,
                    reward=reward + 20 * rate,
                    entropy=entropy - 50 * rate,
                    unsolved=unsolved,
                    pass_at={k: min(1.0, reward + 0.08 * np.log2(k)) for k in (1, 2, 4, 8)},
                    overrides={"policy.optimizer.learning_rate": rate},
                )
    return len(chosen) * len(rates) * seeds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--methods", type=int, default=12)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--iterations", type=int, default=500)
    parser.add_argument(
        "--rates", type=float, nargs="+", default=[3e-4], help="learning rates of every method"
    )
    parser.add_argument(
        "--keep",
        type=Path,
        default=None,
        help="where the report goes; a temporary folder unless given",
    )
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        count = make(
            Path(place) / "logs", given.methods, given.seeds, given.iterations, given.rates
        )
        out = given.keep or Path(place) / "report"
        start = time.perf_counter()
        command = [
            sys.executable,
            "compare.py",
            str(Path(place) / "logs"),
            "--out",
            str(out.resolve()),
        ]
        done = subprocess.run(command, cwd=ROOT, check=False, stdout=subprocess.DEVNULL)
        seconds = time.perf_counter() - start
        peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / (
            1024 if sys.platform != "darwin" else 1024**2
        )
        size = (out / "report.html").stat().st_size / 1e6 if done.returncode == 0 else 0.0
        print(
            f"{count} runs of {given.iterations} iterations: {seconds:.1f} s, {peak:.0f} MiB at "
            f"most, report {size:.1f} MB"
        )
    sys.exit(done.returncode)


if __name__ == "__main__":
    main()
