"""Several runs in one start, with one engine and data that are prepared once.

`train.py -m` makes an engine for each run, and processes if there are several devices, so that one
run may fail alone. These runs do not fail, so all ranks walk through the same list and save time.
"""

from functools import cache
from typing import Any

import hydra
from hydra.plugins.sweeper import Sweeper
from omegaconf import DictConfig

import asym_lightning.commands.train
from asym_lightning.config.engines import build_engine
from asym_lightning.config.loading import prepare_data
from asym_lightning.runtime import config_dir


@cache
def engine(kind: str, path: str, max_model_len: int, distributed: bool, config: str) -> Any:
    """An engine that stays open for later runs; ``config`` is a key of CONFIGS."""
    kept_engine: Any = build_engine(kind, path, CONFIGS[config], max_model_len, distributed)
    kept_engine.close = lambda: None
    return kept_engine


CONFIGS: dict[str, DictConfig] = {}


def kept(kind: str, path: str, config: DictConfig, max_model_len: int, distributed: bool) -> Any:
    settings = f"{config.rollout} {config.trainer.precision} {config.seed}"
    CONFIGS[settings] = config
    return engine(kind, path, max_model_len, distributed, settings)


PREPARED: dict[str, Any] = {}


def prepared(config: DictConfig, tokenizer: Any, context: int) -> Any:
    """The data of a run, prepared once for the same settings; runs only read them."""
    parts = (config.task, config.data, config.benchmarks, config.rollout.max_tokens)
    settings = str((*parts, config.policy.path, config.seed, context))
    if settings not in PREPARED:
        PREPARED[settings] = prepare_data(config, tokenizer, context)
    return PREPARED[settings]


@hydra.main(version_base="1.3", config_path=str(config_dir()), config_name="train")
def main(config: DictConfig) -> None:
    asym_lightning.commands.train.build_engine = kept
    asym_lightning.commands.train.prepare_data = prepared
    asym_lightning.commands.train.train(config)


def no_trial(self: Sweeper, batch: Any) -> None:
    """Skip Hydra's trial, which composes every run once before the first; these runs do compose."""


if __name__ == "__main__":
    Sweeper.validate_batch_is_legal = no_trial  # type: ignore[method-assign]
    main()
