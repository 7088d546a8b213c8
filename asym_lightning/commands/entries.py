"""Entry points of `asym-train` and `asym-evaluate`, used by train.py and evaluate.py too."""

import sys

from asym_lightning.runtime import setup


def train() -> None:
    """Train a policy; ``--help`` shows every key."""
    setup()
    from asym_lightning.commands.cli import entry

    entry("train", "asym_lightning.commands.train:train")


def evaluate() -> None:
    """Evaluate a policy; ``--help`` shows every key. ``--devices N`` is short for ``devices=N``."""
    setup()
    from asym_lightning.commands.cli import entry

    if "--devices" in sys.argv[:-1]:
        at = sys.argv.index("--devices")
        sys.argv[at : at + 2] = [f"devices={sys.argv[at + 1]}"]
    module = "asym_lightning.commands.evaluate.run"
    entry("evaluate", f"{module}:evaluate", f"{module}:check_all")
