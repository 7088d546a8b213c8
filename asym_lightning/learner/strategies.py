"""An optimizer step under any strategy: shards of rollouts, gradient accumulation and clipping."""

from collections.abc import Iterable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

from jaxtyping import Float
from lightning.pytorch.strategies import DDPStrategy, DeepSpeedStrategy, SingleDeviceStrategy
from torch import Tensor
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import FSDPModule
from torch.distributed.tensor import DTensor
from torch.nn.utils import clip_grads_with_norm_, get_total_norm

from asym_lightning.learner.fsdp import FSDP2, shard_policy
from asym_lightning.learner.zero import DeepSpeed
from asym_lightning.runtime.ranks import RolloutShard, own_shard


class StrategyAdapter:
    """The learner's side of a Lightning strategy; this one is for one process and for DDP.

    A subclass for another strategy overrides what differs; ``ADAPTERS`` names it.

    Args:
        strategy: the trainer's.
    """

    # Whether every rank holds all weights.
    replicated = True

    def __init__(self, strategy: Any):
        self.strategy = strategy

    @property
    def rollout_shard(self) -> RolloutShard:
        """The part of the rollouts that this rank learns from."""
        return own_shard()

    def configure(self, policy: Any) -> None:
        """Divide the policy among the ranks, before the optimizer is made."""

    def forward(self, policy: Any, *args: Any, **kwargs: Any) -> Any:
        """Call the policy's forward pass."""
        return policy(*args, **kwargs)

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

    replicated = False

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
    """ZeRO: DeepSpeed's engine calls the forward pass, accumulates, clips and updates."""

    replicated = False

    def forward(self, policy: Any, *args: Any, **kwargs: Any) -> Any:
        return self.strategy.deepspeed_engine(*args, **kwargs)

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

    The norm is that of the full gradient, over the shards of all ranks. A gradient that is a plain
    tensor is the same on all ranks.
    """
    # torch computes with tensors on one device mesh at a time.
    groups: dict[DeviceMesh | None, list[Tensor]] = {}
    for parameter in parameters:
        if parameter.grad is not None:
            groups.setdefault(getattr(parameter.grad, "device_mesh", None), []).append(parameter)
    norm = get_total_norm([_total_norm(group) for group in groups.values()])
    for group in groups.values():
        clip_grads_with_norm_(group, max_norm, norm)
    return norm


def _total_norm(parameters: list[Tensor]) -> Float[Tensor, ""]:
    """Return the norm of the gradients of parameters on one device mesh."""
    norm = get_total_norm([p.grad for p in parameters if p.grad is not None])
    return norm.full_tensor() if isinstance(norm, DTensor) else norm
