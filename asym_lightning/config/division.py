"""Whether ranks can share the layers of a model (tensor parallelism)."""

from typing import Any

from omegaconf import DictConfig

from asym_lightning.checks import positive_int
from asym_lightning.config.loading import layer_sizes
from asym_lightning.types import ConfigError


def check_shared_engine(config: DictConfig, ranks: int) -> None:
    """Refuse a ``rollout.tensor_parallel_size`` that cannot be had with ``ranks`` ranks.

    Raises:
        ConfigError: one line that names the key.
    """
    r = config.rollout
    check_division("rollout.tensor_parallel_size", r.tensor_parallel_size, ranks, config, kv_copies=True)
    if r.tensor_parallel_size > 1 and r.engine != "vllm":
        raise ConfigError(f"rollout.tensor_parallel_size={r.tensor_parallel_size}: only rollout.engine=vllm divides layers; use 1")


def check_division(key: str, size: Any, ranks: int, config: DictConfig, kv_copies: bool = False) -> None:
    """Refuse a number of ranks that the policy's layers cannot be divided among.

    Args:
        key: where ``size`` is set.
        size: ranks that share a layer.
        ranks: of the whole run.
        kv_copies: where there are more ranks than key-value heads, several ranks may hold the same one.

    Raises:
        ConfigError: one line that names the key, and what does not divide by it.
    """
    positive_int(key, size)
    if ranks % size:
        raise ConfigError(f"{key}={size}: groups of {size} ranks cannot be made of the {ranks} of this run; take a divisor of {ranks}")
    if size == 1:
        return
    for name, value in layer_sizes(config).items():
        if value % size and not (kv_copies and name == "num_key_value_heads" and size % value == 0):
            raise ConfigError(f"{key}={size} does not divide the {name}={value} of policy.path={config.policy.path}")
