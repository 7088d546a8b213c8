"""Methods on two processes in one start: both walk through the same list. `train.py -m` starts processes for each run, so that one
may fail; where none does, this spares the time."""

import hydra
from omegaconf import DictConfig

from asym_lightning.cli import config_dir
from asym_lightning.run import train


@hydra.main(version_base="1.3", config_path=str(config_dir()), config_name="train")
def main(config: DictConfig) -> None:
    train(config)


if __name__ == "__main__":
    main()
