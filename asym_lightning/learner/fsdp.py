"""Policies that no rank holds as a whole: FSDP2 (`trainer=fsdp2`), weights, gradients and optimizer state in shards, and layers that
several ranks compute together (`trainer=fsdp2_tp`)."""

import logging
import math
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, nullcontext
from datetime import timedelta
from functools import partial
from typing import Any

import torch
from lightning.pytorch.strategies import DDPStrategy, DeepSpeedStrategy, ModelParallelStrategy, SingleDeviceStrategy
from torch import Tensor
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import CPUOffloadPolicy, MixedPrecisionPolicy, OffloadPolicy, fully_shard, register_fsdp_forward_method
from torch.distributed.tensor import DTensor, Replicate
from torch.distributed.tensor.parallel import ColwiseParallel, ParallelStyle, RowwiseParallel, SequenceParallel, parallelize_module

from asym_lightning.checks import number, one_of, positive_int
from asym_lightning.learner.zero import DeepSpeed
from asym_lightning.runtime.ranks import Share, over_ranks, own_share
from asym_lightning.types import ConfigError

STYLES: dict[str, Callable[[], ParallelStyle]] = {  # by their names in transformers' plans
    "colwise": ColwiseParallel,
    "rowwise": RowwiseParallel,
    "replicated_with_grad_allreduce": partial(SequenceParallel, sequence_dim=2, use_local_output=True),  # norms of a rank's own heads
}


class FSDP2(ModelParallelStrategy):
    """Lightning's strategy for sharded modules, over all ranks of the run; a checkpoint is one file, as without shards.

    ``tensor_parallel_size`` neighbouring ranks compute every layer together, on the same rollouts; embedding, norms and output head are
    whole there. Shards are made over the others.

    Args:
        cpu_offload: keep shards and optimizer state in the host's memory, and update them there.
        param_dtype: what a layer's weights are gathered and computed with in (``bfloat16``); null: as they are kept.
        reduce_each: ``micro_batch`` keeps gradients in shards all the time; ``mini_batch`` sends them once per update, and every rank
            holds whole gradients until then.
        timeout_minutes: how long a rank waits for another one before the run fails; under a watchdog at least twice its limit, once
            training has begun.
        tensor_parallel_size: ranks that have a layer together; 1: each computes whole ones.

    Raises:
        ConfigError: a value that is none of these.
    """

    def __init__(
        self,
        cpu_offload: bool = False,
        param_dtype: str | None = None,
        reduce_each: str = "micro_batch",
        timeout_minutes: float = 30,
        tensor_parallel_size: int = 1,
    ):
        number("trainer.strategy.timeout_minutes", timeout_minutes, 0, open_low=True)
        one_of("trainer.strategy.param_dtype", param_dtype, (None, "bfloat16"))
        one_of("trainer.strategy.reduce_each", reduce_each, ("micro_batch", "mini_batch"))
        positive_int("trainer.strategy.tensor_parallel_size", tensor_parallel_size)
        timeout = timedelta(minutes=timeout_minutes)
        super().__init__(tensor_parallel_size=tensor_parallel_size, save_distributed_checkpoint=False, timeout=timeout)
        self.cpu_offload, self.param_dtype, self.reduce_each = cpu_offload, param_dtype, reduce_each
        self.tensor_parallel_size = tensor_parallel_size
        self.share = Share()

    def setup_environment(self) -> None:
        self._data_parallel_size = self.num_nodes * self.num_processes // self.tensor_parallel_size
        super().setup_environment()
        self.share = own_share()
        if self.tensor_parallel_size > 1:
            logging.getLogger("torch.distributed.tensor._redistribute").setLevel(logging.ERROR)  # two gathers in a row are meant
            data, layers = self.device_mesh["data_parallel"], self.device_mesh["tensor_parallel"]
            self.share = Share(data.get_local_rank(), data.size(), layers.size(), layers.get_group(), data.get_group())

    def model_to_device(self) -> None:
        if not self.cpu_offload:  # buffers are on the device already
            super().model_to_device()


def learns_with(strategy: Any) -> bool:
    """Whether the policy adds up, clips and hands on gradients and weights right under a strategy of Lightning's."""
    plain = isinstance(strategy, SingleDeviceStrategy | DDPStrategy) and not isinstance(strategy, DeepSpeedStrategy)
    return plain or isinstance(strategy, FSDP2 | DeepSpeed)


def share_of(trainer: Any) -> Share:
    """Which part of the rollouts this rank learns from."""
    strategy = getattr(trainer, "strategy", None)
    return strategy.share if isinstance(strategy, FSDP2) else own_share()


def shard(policy: Any, model: Any, strategy: FSDP2) -> None:
    """Shard ``policy`` in place, layer by layer; of layers that are divided, this rank's part. What is outside of layers (embedding,
    output head, last norm) is one group, so that tied weights stay tied, and is there as plain tensors within ``policy.score``: nothing
    else may compute with the model, and all ranks must score equally often.

    Raises:
        ConfigError: the model does not say which of its modules are layers, or how they are divided.
    """
    names = getattr(model, "_no_split_modules", None) or ()
    layers = [module for module in model.modules() if type(module).__name__ in names]
    if not layers:
        raise ConfigError(f"trainer=fsdp2: {type(model).__name__} does not say which of its modules are layers (_no_split_modules)")
    if strategy.tensor_parallel_size > 1:
        _divide(model, strategy.device_mesh["tensor_parallel"])
    mixed = MixedPrecisionPolicy()
    if strategy.param_dtype is not None:
        mixed = MixedPrecisionPolicy(param_dtype=getattr(torch, strategy.param_dtype), reduce_dtype=torch.float32)
    offload = CPUOffloadPolicy(pin_memory=torch.cuda.is_available()) if strategy.cpu_offload else OffloadPolicy()
    mesh = strategy.device_mesh["data_parallel"]
    for module in [*layers, policy]:  # the last one is resharded too: between two calls of score there are only shards
        fully_shard(module, mesh=mesh, mp_policy=mixed, offload_policy=offload, reshard_after_forward=True)
    register_fsdp_forward_method(policy, "score")


def _divide(model: Any, mesh: DeviceMesh) -> None:
    """Give each rank of ``mesh`` its part of every layer, by transformers' plan for the model."""
    plan = getattr(model.config, "base_model_tp_plan", None) or {}
    plan = {name: style for name, style in plan.items() if name.startswith("layers.")}
    others = sorted(set(plan.values()) - STYLES.keys())
    if others or not plan:
        why = f"its plan has {', '.join(others)}, and {', '.join(STYLES)} are known here" if plan else "transformers has no plan for it"
        raise ConfigError(f"trainer=fsdp2_tp: the layers of {type(model).__name__} cannot be divided, {why}; take trainer=fsdp2")
    parts = {name: STYLES[style]() for name, style in plan.items()}
    parallelize_module(model.get_decoder(), mesh, parts, src_data_rank=None)  # every rank has read the same weights


def whole(tensor: Tensor, device: torch.device) -> Tensor:
    """The whole of a shard, on every rank; all ranks must ask for it. A plain tensor is returned as it is."""
    return tensor.to(device).full_tensor() if isinstance(tensor, DTensor) else tensor  # type: ignore[attr-defined]


def accumulate(policy: Any, last: bool) -> AbstractContextManager:
    """For one of the backward passes of an update: gradients are reduced over ranks once, with the ``last`` one; those in shards may be
    reduced with every one."""
    strategy, wrapped = policy.trainer.strategy, policy.trainer.strategy.model
    if isinstance(strategy, DeepSpeed):
        strategy.last_backward(last)
        return nullcontext()
    if isinstance(strategy, FSDP2):
        policy.set_requires_gradient_sync(last or strategy.reduce_each == "micro_batch")
    return nullcontext() if last or not hasattr(wrapped, "no_sync") else wrapped.no_sync()


def step(policy: Any, optimizer: Any, most: float) -> Tensor:
    """Clip gradients to ``most`` and update the weights; the norm before that.

    Raises:
        FloatingPointError: a gradient that is not finite. All ranks have the same norm, and none updates.
    """
    if isinstance(policy.trainer.strategy, DeepSpeed):
        return policy.trainer.strategy.step(optimizer)
    norm = clip_gradients(policy.parameters(), most)
    if not norm.isfinite():
        raise FloatingPointError(f"the gradient is not finite (norm {float(norm):g}); the weights are still those of before this update")
    optimizer.step()
    return norm


def clip_gradients(parameters: Iterable[Tensor], most: float) -> Tensor:
    """Scale all gradients by one number, so that their norm over all shards of all ranks is at most ``most``; the norm before that."""
    parameters = [p for p in parameters if p.grad is not None]
    if not any(isinstance(p.grad, DTensor) for p in parameters):
        return torch.nn.utils.clip_grad_norm_(parameters, most)
    shards = [p.grad.to_local() for p in parameters]  # type: ignore[union-attr]
    copies = torch.tensor([_copies(p.grad) for p in parameters])  # type: ignore[arg-type]
    norms = torch.stack(torch._foreach_norm(shards)).double().cpu()
    norm = over_ranks((norms**2 / copies).sum(), "sum").sqrt()
    torch._foreach_mul_(shards, float((most / (norm + 1e-6)).clamp(max=1.0)))
    return norm


def _copies(tensor: DTensor) -> int:
    """How many of all ranks hold the same part of ``tensor``."""
    sizes = [tensor.device_mesh.size(i) for i, placement in enumerate(tensor.placements) if not isinstance(placement, Replicate)]
    return torch.distributed.get_world_size() // math.prod(sizes)
