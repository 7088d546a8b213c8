"""Train a policy: `python train.py algo=asymgrpo`; `python train.py --help` shows every key."""

from asym_lightning.cli import entry

if __name__ == "__main__":
    entry("train", "asym_lightning.run:train")
