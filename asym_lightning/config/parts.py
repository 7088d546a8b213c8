"""Parts of a run that need neither weights nor an engine: checks build them, the run takes them."""

import random
from collections.abc import Callable
from typing import Any, TypeVar

import numpy as np
import torch
from hydra.core.hydra_config import HydraConfig
from lightning import Callback, Trainer
from lightning.pytorch.callbacks import Checkpoint
from omegaconf import DictConfig, OmegaConf

from asym_lightning.config.callback_checks import MANDATORY
from asym_lightning.config.loading import build

T = TypeVar("T")

# Kind of a part -> config keys that it depends on.
KEYS = {
    "tokenizer": ("policy.path", "policy.trust_remote_code"),
    "data": (
        *("task", "benchmarks", "data"),
        *("policy.path", "policy.trust_remote_code", "rollout.max_tokens"),
    ),
    # Of an evaluation.
    "benchmarks": (
        *("benchmarks", "data"),
        *("policy.path", "policy.trust_remote_code", "rollout.max_tokens"),
    ),
    "algorithm": ("algo",),
    "trainer": ("trainer", "callbacks"),
}


class HandedOn:
    """Parts that the checks before a run have built, for that run.

    A part is taken at most once, and only by a run with the settings that it was built with. A part
    that draws random numbers when it is built is not kept: the run builds it after its seed.
    """

    def __init__(self) -> None:
        self._parts: dict[tuple[str, str], Any] = {}

    def build(self, kind: str, config: DictConfig, make: Callable[[], T]) -> T:
        """Build a part, and keep it for the run."""
        before = _random_state()
        part = make()
        if _random_state() == before:
            self._parts[kind, _settings(kind, config)] = part
        return part

    def take(self, kind: str, config: DictConfig, make: Callable[[], T]) -> T:
        """Return the part that was kept for these settings, or build it."""
        part = self._parts.pop((kind, _settings(kind, config)), None)
        return make() if part is None else part

    def forget(self, *kinds: str) -> None:
        """Drop the parts of these kinds, or of all, that no run has taken."""
        for kind, settings in list(self._parts):
            if not kinds or kind in kinds:
                del self._parts[kind, settings]


# Of this process: its checks put parts in, and its run takes them.
handed_on = HandedOn()


def _settings(kind: str, config: DictConfig) -> str:
    """The settings that a part depends on, with interpolations resolved, as a text."""
    parts = [OmegaConf.select(config, key) for key in KEYS[kind]]
    return str(
        [OmegaConf.to_container(p, resolve=True) if OmegaConf.is_config(p) else p for p in parts]
    )


def _random_state() -> tuple[Any, ...]:
    numpy_state = [str(part) for part in np.random.get_state()]
    return random.getstate(), numpy_state, torch.get_rng_state().tolist()


def build_trainer(config: DictConfig) -> tuple[Trainer, dict[str, Callback]]:
    """Build the trainer with the optional callbacks, which are also returned by their names.

    The run adds its loggers, and the callbacks that it builds itself.
    """
    callbacks: dict[str, Callback] = {
        str(name): build(config.callbacks, str(name))
        for name, settings in config.callbacks.items()
        if settings is not None and name not in MANDATORY
    }
    trainer = build(
        config,
        "trainer",
        callbacks=list(callbacks.values()),
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        # With True and no such callback, Lightning adds one.
        enable_checkpointing=any(isinstance(c, Checkpoint) for c in callbacks.values()),
        log_every_n_steps=1,
        use_distributed_sampler=False,
        default_root_dir=str(HydraConfig.get().runtime.output_dir),
    )
    return trainer, callbacks
