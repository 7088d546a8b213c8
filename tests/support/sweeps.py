"""Settings of tiny runs in sweeps, and the files and metrics that they leave."""

import csv
import hashlib
from pathlib import Path

TINY = ("rollout=transformers", "trainer.max_epochs=2", "callbacks.ledger=null")


def state(folder: Path) -> dict[str, str]:
    """A hash of every file below ``folder``."""
    files = [path for path in folder.rglob("*") if path.is_file()]
    return {str(path): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def rows(folder: Path) -> list[dict[str, str]]:
    with (folder / "metrics.csv").open() as file:
        return [row for row in csv.DictReader(file) if row["reward/mean"]]
