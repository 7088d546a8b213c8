"""Seconds of short commands in two checkouts, in turn: `python benchmarks/startup.py BEFORE AFTER`.

Commands: a refused key, one iteration of the default run from start to end, and the imports of a
run alone. Each pair is started one behind the other, the order changes with each pair; printed are
the medians, their spread, and the median of the ratios after / before.
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

COMMANDS = {
    "a refused key": ["train.py", "trainer.grad_clip=1"],
    "one iteration": ["train.py", "trainer.max_epochs=1"],
}


def seconds(checkout: Path, command: list[str], folder: str) -> float:
    """Wall-clock seconds of a command in a checkout."""
    environment = os.environ | {"PYTHONPATH": str(checkout), "OMP_NUM_THREADS": "1"}
    own = [f"hydra.run.dir={folder}"] if command[0] == "train.py" else []
    start = time.perf_counter()
    subprocess.run(
        [sys.executable, *command, *own],
        cwd=checkout,
        env=environment,
        capture_output=True,
        check=False,
    )
    return time.perf_counter() - start


def imports(checkout: Path) -> list[str]:
    """A command that imports what a run of that checkout imports, vLLM included."""
    rooms = (checkout / "asym_lightning" / "commands").is_dir()
    module = "asym_lightning.commands.train" if rooms else "asym_lightning.run"
    return ["-c", f"import {module}, callbacks.vllm_rollout, callbacks.record, vllm; vllm.LLM"]


def arguments(text: str | None, pairs: int) -> tuple[list[Path], int]:
    """The two checkouts and the number of pairs, from the command line of a benchmark."""
    parser = argparse.ArgumentParser(
        description=text, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("before", type=Path)
    parser.add_argument("after", type=Path)
    parser.add_argument("--pairs", type=int, default=pairs)
    given = parser.parse_args()
    return [given.before.resolve(), given.after.resolve()], given.pairs


def main() -> None:
    checkouts, pairs = arguments(__doc__, pairs=5)
    for name in (*COMMANDS, "imports alone"):
        measured: list[list[float]] = [[], []]
        for pair in range(pairs + 1):
            for side in (0, 1) if pair % 2 else (1, 0):
                command = COMMANDS.get(name) or imports(checkouts[side])
                with tempfile.TemporaryDirectory() as folder:
                    taken = seconds(checkouts[side], command, f"{folder}/run")
                if pair:  # the first pair fills caches
                    measured[side].append(taken)
        ratios = [after / before for before, after in zip(*measured, strict=True)]
        texts = [f"{statistics.median(s):.2f} s ({min(s):.2f} to {max(s):.2f})" for s in measured]
        ratio = f"{statistics.median(ratios):.3f} ({min(ratios):.3f} to {max(ratios):.3f})"
        print(f"{name}: before {texts[0]}, after {texts[1]}, ratio {ratio}", flush=True)


if __name__ == "__main__":
    main()
