"""Score a policy: `python evaluate.py policy.path=FOLDER benchmarks=[math500,aime24] samples=8`; `--help` shows every key."""

import sys

from asym_lightning.cli import entry

if __name__ == "__main__":
    if "--devices" in sys.argv[:-1]:  # a plain flag beside Hydra's keys
        at = sys.argv.index("--devices")
        sys.argv[at : at + 2] = [f"devices={sys.argv[at + 1]}"]
    entry("evaluate", "asym_lightning.evaluation.run:evaluate", "asym_lightning.evaluation.run:check_all")
