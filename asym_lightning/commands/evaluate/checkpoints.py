"""Checkpoints of runs as policies of an evaluation: ``policy.path=FOLDER/NAME.ckpt``."""

import os
import shutil
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from asym_lightning.commands.export import export
from asym_lightning.config.model import policy_folder
from asym_lightning.runtime.run_folder import is_checkpoint
from asym_lightning.types import ConfigError


def names_checkpoint(config: DictConfig) -> bool:
    """Whether ``policy.path`` is a checkpoint of a run."""
    return str(config.policy.path).endswith(".ckpt")


def with_path(config: DictConfig, path: str) -> DictConfig:
    """Return the config with another policy folder; ``policy.name`` is the path before."""
    changed = config.copy()
    OmegaConf.set_struct(changed, False)
    changed.policy.path = path
    changed.policy.name = config.policy.path
    return changed


def check_checkpoint(checkpoint: Path) -> None:
    """Check that a checkpoint exists and is in a run directory. Raises ConfigError otherwise."""
    if not is_checkpoint(checkpoint):
        raise ConfigError(
            f"policy.path={checkpoint}: there is no such checkpoint; "
            "a run keeps them under checkpoints/"
        )
    if not (checkpoint.resolve().parent.parent / "config.yaml").is_file():
        raise ConfigError(
            f"policy.path={checkpoint}: the checkpoint must be in the checkpoints/ folder of its "
            "run directory, beside config.yaml"
        )


def base_of(checkpoint: Path) -> str:
    """Return the folder or hub id of the model whose weights a checkpoint holds."""
    config: Any = OmegaConf.load(checkpoint.resolve().parent.parent / "config.yaml")
    return policy_folder(config)


def exported(checkpoint: Path, folder: Path) -> str:
    """Export a checkpoint to ``folder``, unless the folder exists; return the folder."""
    if not folder.is_dir():
        temporary = folder.with_name("policy.tmp")
        shutil.rmtree(temporary, ignore_errors=True)
        export(checkpoint, temporary)
        os.replace(temporary, folder)
    return str(folder)


def weights_stamp(policy: Path) -> str:
    """Return a text that identifies the weights of a policy without reading them.

    It has names, sizes and times of a checkpoint, or of the files with weights in a folder.
    """
    files = [policy]
    if not policy.is_file():
        patterns = "*.safetensors", "*.bin", "*/*.pt"
        files = sorted(path for pattern in patterns for path in policy.glob(pattern))
    return ", ".join(
        f"{path.name} {path.stat().st_size} {path.stat().st_mtime_ns}" for path in files
    )
