"""Evaluate a policy: `python evaluate.py policy.path=FOLDER benchmarks=[math500,aime24] samples=8`.

`python evaluate.py --help` shows every key.
"""

from asym_lightning.commands.entries import evaluate

if __name__ == "__main__":
    evaluate()
