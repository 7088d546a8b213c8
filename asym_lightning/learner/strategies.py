"""An optimizer step under any strategy: shards of rollouts, gradient accumulation and clipping."""

import math
from collections.abc import Iterable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from jaxtyping import Float
from lightning.pytorch.strategies import DDPStrategy, DeepSpeedStrategy, SingleDeviceStrategy
from torch import Tensor
from torch.distributed.fsdp import FSDPModule
from torch.distributed.tensor import DTensor, Replicate

from asym_lightning.learner.fsdp import FSDP2, shard_policy
from asym_lightning.learner.zero import DeepSpeed
from asym_lightning.runtime.ranks import RolloutShard, own_shard, reduce_over_ranks


class StrategyAdapter:
    """The learner's side of a Lightning strategy; this one is for one process and for DDP.

    A subclass for another strategy overrides what differs; ``ADAPTERS`` names it.

    Args:
        strategy: the trainer's.
    """

    def __init__(self, strategy: Any):
        self.strategy = strategy

    @property
    def rollout_shard(self) -> RolloutShard:
        """The part of the rollouts that this rank learns from."""
        return own_shard()

    def configure(self, policy: Any) -> None:
        """Divide the policy among the ranks, before the optimizer is made."""

    def accumulating(self, policy: Any, last: bool) -> AbstractContextManager:
        """Return the context for one of the backward passes of an update.

        Gradients are reduced over ranks once, in the ``last`` pass.
        """
        # Only wrapped modules such as DDP's have no_sync.
        if last or not hasattr(self.strategy.model, "no_sync"):
            return nullcontext()
        return self.strategy.model.no_sync()

    def clip_and_step(self, policy: Any, optimizer: Any, max_norm: float) -> Float[Tensor, ""]:
        """Clip gradients to ``max_norm``, update the weights, and return the norm before clipping.

        Raises:
            FloatingPointError: a gradient is not finite. All ranks have the same norm, so that none
                of them updates.
        """
        norm = clip_gradients(policy.parameters(), max_norm)
        if not norm.isfinite():
            raise FloatingPointError(
                f"the gradient is not finite (norm {float(norm):g}): this update was skipped, and "
                "the weights are unchanged"
            )
        optimizer.step()
        return norm


class FSDP2Adapter(StrategyAdapter):
    """Shards of weights, gradients and optimizer state over ranks, and tensor parallelism."""

    @property
    def rollout_shard(self) -> RolloutShard:
        return self.strategy.rollout_shard

    def configure(self, policy: Any) -> None:
        if not isinstance(policy, FSDPModule):
            shard_policy(policy, policy.model, self.strategy)

    def accumulating(self, policy: Any, last: bool) -> AbstractContextManager:
        """With ``reduce_each: micro_batch`` gradients are reduced in every pass."""
        policy.set_requires_gradient_sync(last or self.strategy.reduce_each == "micro_batch")
        return super().accumulating(policy, last)


class DeepSpeedAdapter(StrategyAdapter):
    """ZeRO: DeepSpeed's engine accumulates, clips and updates."""

    def accumulating(self, policy: Any, last: bool) -> AbstractContextManager:
        self.strategy.last_backward(last)
        return nullcontext()

    def clip_and_step(self, policy: Any, optimizer: Any, max_norm: float) -> Float[Tensor, ""]:
        return self.strategy.step(optimizer)


# The first class that a strategy is an instance of; Lightning's DeepSpeed is a DDP strategy.
ADAPTERS: dict[type, type[StrategyAdapter] | None] = {
    FSDP2: FSDP2Adapter,
    DeepSpeed: DeepSpeedAdapter,
    DeepSpeedStrategy: None,
    SingleDeviceStrategy: StrategyAdapter,
    DDPStrategy: StrategyAdapter,
}


def adapter_of(strategy: Any) -> StrategyAdapter | None:
    """Return the adapter of a strategy; None if the policy does not learn with it."""
    for kind, adapter in ADAPTERS.items():
        if isinstance(strategy, kind):
            return adapter(strategy) if adapter else None
    return None


def adapter_in(trainer: Any) -> StrategyAdapter:
    """Return the adapter of a trainer's strategy; preflight has refused strategies without one."""
    return adapter_of(getattr(trainer, "strategy", None)) or StrategyAdapter(None)


def clip_gradients(parameters: Iterable[Tensor], max_norm: float) -> Float[Tensor, ""]:
    """Scale all gradients by one factor to a norm of at most ``max_norm``; return the norm before.

    The norm is that of the full gradient, over the shards of all ranks.
    """
    parameters = [p for p in parameters if p.grad is not None]
    if not any(isinstance(p.grad, DTensor) for p in parameters):
        return torch.nn.utils.clip_grad_norm_(parameters, max_norm)
    gradients: list[Any] = [p.grad for p in parameters]
    shards = [gradient.to_local() for gradient in gradients]
    copies = torch.tensor([_copies(gradient) for gradient in gradients])
    norms = torch.stack(torch._foreach_norm(shards)).double().cpu()
    # A part that several ranks hold counts once in the sum over ranks.
    norm = reduce_over_ranks((norms**2 / copies).sum(), "sum").sqrt()
    torch._foreach_mul_(shards, float((max_norm / (norm + 1e-6)).clamp(max=1.0)))
    return norm


def _copies(tensor: DTensor) -> int:
    """Return the number of ranks that hold the same part of ``tensor``."""
    sizes = [
        tensor.device_mesh.size(i)
        for i, placement in enumerate(tensor.placements)
        if not isinstance(placement, Replicate)
    ]
    return torch.distributed.get_world_size() // math.prod(sizes)
