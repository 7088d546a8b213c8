"""Train a policy: `python train.py algo=asymgrpo`; `python train.py --help` shows every key."""

from asym_lightning.commands.entries import train

if __name__ == "__main__":
    train()
