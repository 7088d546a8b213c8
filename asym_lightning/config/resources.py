"""Memory and disk that a run takes, and the writing of its policy, before anything is loaded."""

import shutil
from pathlib import Path
from typing import Any

import psutil
import torch
from omegaconf import DictConfig, OmegaConf

from asym_lightning.config.loading import at_key, settings_of
from asym_lightning.config.model import policy_path, skeleton
from asym_lightning.learner.adapters import LoRASettings, add_adapters
from asym_lightning.learner.policy_folder import trial_save
from asym_lightning.types import ConfigError

GB = 1e9
# Bytes per weight: fp32 weights, their gradients, two moments of AdamW.
WEIGHT, GRADIENT, MOMENTS = 4, 4, 8


def check_resources(config: DictConfig) -> None:
    """Check memory and disk by arithmetic, and that the policy has the layers of adapters.

    Raises:
        ConfigError: one line with what is needed, and what there is.
    """
    model = skeleton(config)
    total = sum(parameter.numel() for parameter in model.parameters())
    if config.policy.lora is not None:
        settings = settings_of(LoRASettings, config.policy.lora, "policy.lora")
        with at_key("policy.lora"):
            add_adapters(model, settings)
    trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
    _check_memory(config, total, trained)
    _check_disk(config, total, trained)


def memory_of_rank(config: DictConfig, total: int, trained: int) -> float:
    """Bytes that a rank on a CPU holds at least: policy, optimizer, and an engine of its own.

    Activations, the samples of an iteration and what the libraries take are not counted.
    """
    learner = total * WEIGHT + trained * (GRADIENT + MOMENTS)
    if config.rollout.placement != "colocated":
        return learner
    engine = total * (4 if str(config.trainer.precision).startswith("32") else 2)
    cache = config.rollout.kv_cache_gb * GB if config.rollout.engine == "vllm" else 0.0
    return learner + engine + cache


def _check_memory(config: DictConfig, total: int, trained: int) -> None:
    on_cpu = config.trainer.accelerator == "cpu" or not torch.cuda.is_available()
    devices = config.trainer.devices
    if not on_cpu or not isinstance(config.trainer.strategy, str):
        return  # sharded strategies divide the weights; a GPU's memory is its own
    ranks = devices if isinstance(devices, int) and devices > 0 else 1
    needed = ranks * memory_of_rank(config, total, trained)
    free = psutil.virtual_memory().available
    if needed > free:
        raise ConfigError(
            f"policy.path={config.policy.path}: {total / 1e6:.0f} million weights take at least "
            f"{needed / GB:.1f} GB of memory to learn, with optimizer and engine, and "
            f"{free / GB:.1f} GB are free; take lora=default, a smaller model or fewer devices"
        )


def _check_disk(config: DictConfig, total: int, trained: int) -> None:
    folder = Path(OmegaConf.select(config, "hydra.run.dir") or ".")
    needed = 0
    if config.callbacks.get("policy"):
        needed += total * WEIGHT
    if config.callbacks.get("checkpoint"):
        needed += total * WEIGHT + trained * MOMENTS
    place = folder.absolute()
    while not place.exists():
        place = place.parent
    free = shutil.disk_usage(place).free
    if needed > free:
        raise ConfigError(
            f"hydra.run.dir={folder}: one checkpoint and the policy take {needed / GB:.1f} GB on "
            f"the disk, and {free / GB:.1f} GB are free in {place}"
        )


def check_writing(config: DictConfig, tokenizer: Any) -> None:
    """Check that the policy can be written at the end: all files, and one weight, for a trial.

    Raises:
        ConfigError: it could not be written.
    """
    path = policy_path(config)
    if path is None or not config.callbacks.get("policy"):
        return
    from transformers import GenerationConfig

    model = skeleton(config)
    try:
        model.generation_config = GenerationConfig.from_pretrained(path)
    except OSError:  # a folder need not have one
        model.generation_config = GenerationConfig.from_model_config(model.config)
    try:
        trial_save(model, tokenizer, base=path)
    # transformers, tokenizers and the disk raise errors of different classes.
    except Exception as error:
        reason = " ".join(str(error).split())[:200]
        raise ConfigError(
            f"policy.path={path}: the policy could not be written at the end of the run: {reason}"
        ) from None
