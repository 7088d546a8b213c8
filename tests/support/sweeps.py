"""Tiny runs of sweeps, and what they leave."""

import csv
import hashlib
from pathlib import Path

TINY = ("rollout=transformers", "trainer.max_epochs=2", "callbacks.ledger=null")


def state(folder: Path) -> dict[str, str]:
    """The content of every file below ``folder``."""
    return {str(path): hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.rglob("*") if path.is_file()}


def rows(folder: Path) -> list[dict[str, str]]:
    with (folder / "metrics.csv").open() as file:
        return [row for row in csv.DictReader(file) if row["reward/mean"]]
