"""`asym-train` and `asym-evaluate`, which train.py and evaluate.py of a checkout call too."""

import sys

from asym_lightning.runtime import setup


def train() -> None:
    """Train a policy; ``--help`` shows every key."""
    setup()
    from asym_lightning.commands.cli import entry

    entry("train", "asym_lightning.commands.train:train")


def evaluate() -> None:
    """Score a policy; ``--help`` shows every key. ``--devices N`` is a plain flag beside Hydra's keys."""
    setup()
    from asym_lightning.commands.cli import entry

    if "--devices" in sys.argv[:-1]:
        at = sys.argv.index("--devices")
        sys.argv[at : at + 2] = [f"devices={sys.argv[at + 1]}"]
    room = "asym_lightning.commands.evaluate.run"
    entry("evaluate", f"{room}:evaluate", f"{room}:check_all")
