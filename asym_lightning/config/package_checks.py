"""Checks of the packages and accounts that the loggers and the launcher of a config need."""

import os
from importlib.util import find_spec

from omegaconf import DictConfig

from asym_lightning.config.loading import check_targets
from asym_lightning.runtime import how_to_install
from asym_lightning.types import ConfigError

# Start of a _target_ -> the modules that it needs, and the extra of pyproject.toml with them.
NEEDED: dict[str, tuple[tuple[str, ...], str]] = {
    "lightning.pytorch.loggers.WandbLogger": (("wandb",), "loggers"),
    "asym_lightning.runtime.loggers.mlflow_logger": (("mlflow", "sqlalchemy"), "loggers"),
    "hydra_plugins.hydra_joblib_launcher": (("hydra_plugins.hydra_joblib_launcher",), "sweep"),
    "hydra_plugins.hydra_submitit_launcher": (("hydra_plugins.hydra_submitit_launcher",), "sweep"),
}


def check_loggers(config: DictConfig) -> None:
    """Check that each chosen logger's package is installed, and that W&B has a login if online.

    Raises ConfigError otherwise.
    """
    check_targets(config.logger)
    for name, logger in (config.logger or {}).items():
        _check_installed(f"logger.{name}", logger._target_)
        if not logger._target_.endswith(".WandbLogger"):
            continue
        if not logger.offline and os.environ.get("WANDB_MODE", "online") == "online":
            _check_account(remedy=f"logger.{name}.offline=true")


def _check_account(remedy: str) -> None:
    """Check that an account of Weights & Biases is known here.

    Args:
        remedy: the override that logs without an account.
    """
    import wandb

    try:
        known, why = wandb.login(prompt=False), "no account is known here"
    except wandb.errors.Error as error:
        known, why = False, str(error)
    if not known:
        raise ConfigError(
            f"Weights & Biases: {why}; run `wandb login`, set WANDB_API_KEY, or log without it: "
            f"{remedy}"
        )


def check_launcher(config: DictConfig) -> None:
    """Check that the package of the chosen launcher is there, and the number of GPUs for its jobs.

    Raises ConfigError otherwise.
    """
    target = config.hydra.launcher._target_
    _check_installed("hydra/launcher", target)
    if "submitit" in target and not isinstance(config.trainer.devices, int):
        raise ConfigError(
            f"trainer.devices={config.trainer.devices}: a job has to ask for its GPUs by number; "
            "add trainer.devices=8"
        )


def _check_installed(key: str, target: str) -> None:
    modules, extra = next(
        (needed for start, needed in NEEDED.items() if target.startswith(start)), ((), "")
    )
    absent = [module for module in modules if find_spec(module) is None]
    if absent:
        raise ConfigError(
            f"{key}: {target} needs {', '.join(absent)}, which is not installed: "
            f"{how_to_install(extra)}"
        )
