"""An optimizer step under any strategy: shards of rollouts, gradient accumulation and clipping."""

import math
from collections.abc import Iterable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from jaxtyping import Float
from lightning.pytorch.strategies import DDPStrategy, DeepSpeedStrategy, SingleDeviceStrategy
from torch import Tensor
from torch.distributed.tensor import DTensor, Replicate

from asym_lightning.learner.fsdp import FSDP2
from asym_lightning.learner.zero import DeepSpeed
from asym_lightning.runtime.ranks import RolloutShard, own_shard, reduce_over_ranks


def learns_with(strategy: Any) -> bool:
    """Whether the policy accumulates, clips and exports correctly under a strategy of Lightning."""
    if isinstance(strategy, FSDP2 | DeepSpeed):
        return True
    # Lightning's DeepSpeed strategy is a subclass of its DDP strategy.
    return isinstance(strategy, SingleDeviceStrategy | DDPStrategy) and not isinstance(
        strategy, DeepSpeedStrategy
    )


def shard_of(trainer: Any) -> RolloutShard:
    """Return the part of the rollouts that this rank learns from."""
    strategy = getattr(trainer, "strategy", None)
    return strategy.rollout_shard if isinstance(strategy, FSDP2) else own_shard()


def accumulating(policy: Any, last: bool) -> AbstractContextManager:
    """Return the context for one of the backward passes of an update.

    Gradients are reduced over ranks once, in the ``last`` pass. FSDP2 with ``reduce_each:
    micro_batch`` reduces them in every pass instead.
    """
    strategy = policy.trainer.strategy
    if isinstance(strategy, DeepSpeed):
        strategy.last_backward(last)
        return nullcontext()
    if isinstance(strategy, FSDP2):
        policy.set_requires_gradient_sync(last or strategy.reduce_each == "micro_batch")
    # Only wrapped modules such as DDP's have no_sync.
    if last or not hasattr(strategy.model, "no_sync"):
        return nullcontext()
    return strategy.model.no_sync()


def clip_and_step(policy: Any, optimizer: Any, max_norm: float) -> Float[Tensor, ""]:
    """Clip gradients to ``max_norm``, update the weights, and return the norm before clipping.

    Raises:
        FloatingPointError: a gradient is not finite. All ranks have the same norm, so that none of
            them updates.
    """
    if isinstance(policy.trainer.strategy, DeepSpeed):
        return policy.trainer.strategy.step(optimizer)
    norm = clip_gradients(policy.parameters(), max_norm)
    if not norm.isfinite():
        raise FloatingPointError(
            f"the gradient is not finite (norm {float(norm):g}): this update was skipped, and the "
            "weights are unchanged"
        )
    optimizer.step()
    return norm


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
