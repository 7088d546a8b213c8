"""Checks of tensor parallelism: whether a model's layers can be divided among ranks."""

from typing import Any

from omegaconf import DictConfig

from asym_lightning.checks import positive_int
from asym_lightning.config.model import layer_sizes
from asym_lightning.types import ConfigError


def check_shared_engine(config: DictConfig, ranks: int) -> None:
    """Refuse a ``rollout.tensor_parallel_size`` that is impossible with ``ranks`` ranks.

    Raises:
        ConfigError: one line that names the key.
    """
    size = config.rollout.tensor_parallel_size
    check_division("rollout.tensor_parallel_size", size, ranks, config=config, kv_copies=True)
    if size > 1 and config.rollout.engine != "vllm":
        raise ConfigError(
            f"rollout.tensor_parallel_size={size}: only rollout.engine=vllm divides layers; use 1"
        )


def check_division(
    key: str, size: Any, ranks: int, *, config: DictConfig, kv_copies: bool = False
) -> None:
    """Refuse a number of ranks that the policy's layers cannot be divided among.

    Args:
        key: the config key of ``size``.
        size: number of ranks that share a layer.
        ranks: number of ranks of the run.
        kv_copies: whether several ranks may hold the same key-value head, if there are more ranks
            than heads.

    Raises:
        ConfigError: one line that names the key, and the size of a layer that it does not divide.
    """
    positive_int(key, size)
    if ranks % size:
        raise ConfigError(
            f"{key}={size} does not divide the number of ranks of this run, {ranks}; "
            f"take a divisor of {ranks}"
        )
    if size == 1:
        return
    for name, value in layer_sizes(config).items():
        if value % size and not (kv_copies and name == "num_key_value_heads" and size % value == 0):
            raise ConfigError(
                f"{key}={size} does not divide the {name}={value} of "
                f"policy.path={config.policy.path}"
            )
