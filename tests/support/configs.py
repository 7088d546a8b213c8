"""Configurations composed as the command line composes them."""

from collections.abc import Callable
from typing import Any

from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.types import RunMode
from omegaconf import DictConfig

from asym_lightning.commands.sweeps import Sweep
from asym_lightning.runtime import config_dir


def planned(
    *overrides: str, chosen: Callable[[list[list[str]]], list[list[str]]] | None = None
) -> tuple[Sweep, list[Any]]:
    """The sweep of a command line and the configs of its runs; ``chosen`` may leave runs out."""
    with initialize_config_dir(str(config_dir()), version_base="1.3"):
        app = GlobalHydra.instance().hydra
        assert app is not None
        master = app.compose_config(
            "train", list(overrides), RunMode.MULTIRUN, with_log_configuration=False
        )
        sweep = Sweep.of(master)
        sweep.jobs = chosen(sweep.jobs) if chosen else sweep.jobs
        return sweep, sweep.configs(app.config_loader, master)


CONF = config_dir()


def composed(*overrides: str) -> DictConfig:
    with initialize_config_dir(str(CONF), version_base="1.3"):
        return compose("train", list(overrides))
