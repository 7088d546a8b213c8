"""A process that a benchmark starts in the checkout."""

import os
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent


class ChildError(RuntimeError):
    """A process failed; the message is its last line, or the last that names an error."""


def run(
    command: list[str], log: Path, threads: int | None = None, seconds: float | None = None
) -> None:
    """Run this Python with ``command`` and write its output to ``log``.

    It gets ``threads`` of a CPU and at most ``seconds``.

    Raises:
        ChildError: it failed or took longer.
    """
    path = os.pathsep.join([str(ROOT), str(ROOT / "benchmarks"), os.environ.get("PYTHONPATH", "")])
    told = {"PYTHONPATH": path, "HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}
    told |= {} if threads is None else {"OMP_NUM_THREADS": str(threads)}
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("w") as out:
        try:
            done = subprocess.run(
                [sys.executable, *command],
                cwd=ROOT,
                env={**os.environ, **told},
                stdout=out,
                stderr=subprocess.STDOUT,
                timeout=seconds,
            )
        except subprocess.TimeoutExpired:
            raise ChildError(f"still running after {seconds:.0f} s") from None
    if done.returncode:
        lines = [line for line in log.read_text(errors="replace").splitlines() if line.strip()] or [
            f"exit status {done.returncode}"
        ]
        raise ChildError(
            next(
                (line for line in reversed(lines) if re.search(r"\w(Error|Exception): ", line)),
                lines[-1],
            ).strip()[:300]
        )
