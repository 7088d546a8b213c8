"""Policies that no rank holds as a whole: FSDP2 (`trainer=fsdp2`), weights, gradients and optimizer state in shards."""

from collections.abc import Iterable
from datetime import timedelta
from typing import Any

import torch
from lightning.pytorch.strategies import ModelParallelStrategy
from torch import Tensor
from torch.distributed.fsdp import CPUOffloadPolicy, MixedPrecisionPolicy, OffloadPolicy, fully_shard, register_fsdp_forward_method
from torch.distributed.tensor import DTensor

from asym_lightning.algorithms.checks import number, one_of
from asym_lightning.ops.ranks import over_ranks
from asym_lightning.types import ConfigError


class FSDP2(ModelParallelStrategy):
    """Lightning's strategy for sharded modules, over all ranks of the run; a checkpoint is one file, as without shards.

    Args:
        cpu_offload: keep shards and optimizer state in the host's memory, and update them there.
        param_dtype: what a layer's weights are gathered and computed with in (``bfloat16``); null: as they are kept.
        reduce_each: ``micro_batch`` keeps gradients in shards all the time; ``mini_batch`` sends them once per update, and every rank
            holds whole gradients until then.
        timeout_minutes: how long a rank waits for another one before the run fails; under a watchdog at least twice its limit, once
            training has begun.

    Raises:
        ConfigError: a value that is none of these.
    """

    def __init__(
        self, cpu_offload: bool = False, param_dtype: str | None = None, reduce_each: str = "micro_batch", timeout_minutes: float = 30
    ):
        number("trainer.strategy.timeout_minutes", timeout_minutes, 0, open_low=True)
        one_of("trainer.strategy.param_dtype", param_dtype, (None, "bfloat16"))
        one_of("trainer.strategy.reduce_each", reduce_each, ("micro_batch", "mini_batch"))
        super().__init__(tensor_parallel_size=1, save_distributed_checkpoint=False, timeout=timedelta(minutes=timeout_minutes))
        self.cpu_offload, self.param_dtype, self.reduce_each = cpu_offload, param_dtype, reduce_each

    def setup_environment(self) -> None:
        self._data_parallel_size = self.num_nodes * self.num_processes
        super().setup_environment()

    def model_to_device(self) -> None:
        if not self.cpu_offload:  # buffers are on the device already
            super().model_to_device()


def shard(policy: Any, model: Any, strategy: FSDP2) -> None:
    """Shard ``policy`` in place, layer by layer. What is outside of layers (embedding, output head, last norm) is one group, so that
    tied weights stay tied, and is there as plain tensors within ``policy.score``: nothing else may compute with the model, and all ranks
    must score equally often.

    Raises:
        ConfigError: the model does not say which of its modules are layers.
    """
    names = getattr(model, "_no_split_modules", None) or ()
    layers = [module for module in model.modules() if type(module).__name__ in names]
    if not layers:
        raise ConfigError(f"trainer=fsdp2: {type(model).__name__} does not say which of its modules are layers (_no_split_modules)")
    mixed = MixedPrecisionPolicy()
    if strategy.param_dtype is not None:
        mixed = MixedPrecisionPolicy(param_dtype=getattr(torch, strategy.param_dtype), reduce_dtype=torch.float32)
    offload = CPUOffloadPolicy(pin_memory=torch.cuda.is_available()) if strategy.cpu_offload else OffloadPolicy()
    mesh = strategy.device_mesh["data_parallel"]
    for module in [*layers, policy]:  # the last one is resharded too: between two calls of score there are only shards
        fully_shard(module, mesh=mesh, mp_policy=mixed, offload_policy=offload, reshard_after_forward=True)
    register_fsdp_forward_method(policy, "score")


def whole(tensor: Tensor, device: torch.device) -> Tensor:
    """The whole of a shard, on every rank; all ranks must ask for it. A plain tensor is returned as it is."""
    return tensor.to(device).full_tensor() if isinstance(tensor, DTensor) else tensor  # type: ignore[attr-defined]


def clip_gradients(parameters: Iterable[Tensor], most: float) -> Tensor:
    """Scale all gradients by one number, so that their norm over all shards of all ranks is at most ``most``; the norm before that."""
    parameters = [p for p in parameters if p.grad is not None]
    if not any(isinstance(p.grad, DTensor) for p in parameters):
        return torch.nn.utils.clip_grad_norm_(parameters, most)
    shards = [p.grad.to_local() for p in parameters]  # type: ignore[union-attr]
    norm = over_ranks(torch.nn.utils.get_total_norm(shards).double() ** 2, "sum").sqrt()
    torch._foreach_mul_(shards, float((most / (norm + 1e-6)).clamp(max=1.0)))
    return norm
