"""FSDP2 and tensor parallelism (`trainer=fsdp2`, `trainer=fsdp2_tp`).

No rank holds all of a policy. With FSDP2 each rank keeps a shard of weights, gradients and
optimizer state. With tensor parallelism several ranks also compute every layer together.
"""

from collections.abc import Callable
from datetime import timedelta
from functools import partial
from typing import Any, Literal

import torch
from lightning.pytorch.accelerators import CUDAAccelerator
from lightning.pytorch.strategies import ModelParallelStrategy
from torch import Tensor
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import (
    CPUOffloadPolicy,
    MixedPrecisionPolicy,
    OffloadPolicy,
    fully_shard,
)
from torch.distributed.tensor import DTensor
from torch.distributed.tensor.parallel import (
    ColwiseParallel,
    ParallelStyle,
    RowwiseParallel,
    SequenceParallel,
    parallelize_module,
)

from asym_lightning.checks import Count, Positive, validated
from asym_lightning.learner.transformers_patches import layers_of
from asym_lightning.runtime.lightning_patches import (
    set_data_parallel_size,
    set_process_group_backend,
)
from asym_lightning.runtime.ranks import RolloutShard, own_shard
from asym_lightning.runtime.torch_patches import expect_sequential_collectives
from asym_lightning.types import ConfigError

# By their names in transformers' tensor-parallel plans.
TP_STYLES: dict[str, Callable[[], ParallelStyle]] = {
    "colwise": ColwiseParallel,
    "rowwise": RowwiseParallel,
    # Norms of the heads that a rank has.
    "replicated_with_grad_allreduce": partial(
        SequenceParallel, sequence_dim=2, use_local_output=True
    ),
}


@validated
class FSDP2(ModelParallelStrategy):
    """Lightning's strategy for sharded modules, over all ranks of the run.

    A checkpoint is one file, as without shards. ``tensor_parallel_size`` neighbouring ranks compute
    every layer together, on the same rollouts; each of them has the complete embedding, norms and
    output head. Shards are made over the other dimension of the ranks.

    Args:
        cpu_offload: keep shards and optimizer state in the host's memory, and update them there.
        param_dtype: the dtype that a layer's weights are gathered and computed in (``bfloat16``);
            null: the dtype that they are kept in.
        reduce_each: ``micro_batch`` keeps gradients in shards all the time; ``mini_batch`` reduces
            them once per update, and every rank holds full gradients until then.
        timeout_minutes: how long a rank waits for another one before the run fails; under a
            watchdog at least twice its limit, once training has begun.
        tensor_parallel_size: number of ranks that compute a layer together; 1: each rank computes
            complete layers.

    Raises:
        FieldError: a value is out of range.
    """

    def __init__(
        self,
        cpu_offload: bool = False,
        param_dtype: Literal["bfloat16"] | None = None,
        reduce_each: Literal["micro_batch", "mini_batch"] = "micro_batch",
        timeout_minutes: Positive = 30,
        tensor_parallel_size: Count = 1,
    ):
        super().__init__(
            tensor_parallel_size=tensor_parallel_size,
            save_distributed_checkpoint=False,
            timeout=timedelta(minutes=timeout_minutes),
        )
        self.cpu_offload, self.param_dtype, self.reduce_each = cpu_offload, param_dtype, reduce_each
        self.tensor_parallel_size = tensor_parallel_size
        self.rollout_shard = RolloutShard()

    def setup_environment(self) -> None:
        ranks = self.num_nodes * self.num_processes
        set_data_parallel_size(self, ranks // self.tensor_parallel_size)
        if self.cpu_offload and isinstance(self.accelerator, CUDAAccelerator):
            # The norms of gradients on the host are reduced there, which NCCL cannot. Not tried on
            # GPUs.
            set_process_group_backend(self, "cpu:gloo,cuda:nccl")
        super().setup_environment()
        self.rollout_shard = own_shard()
        if self.tensor_parallel_size > 1:
            expect_sequential_collectives()
            data, layers = self.device_mesh["data_parallel"], self.device_mesh["tensor_parallel"]
            self.rollout_shard = RolloutShard(
                index=data.get_local_rank(),
                count=data.size(),
                tp_size=layers.size(),
                tp_group=layers.get_group(),
                dp_group=data.get_group(),
            )

    def model_to_device(self) -> None:
        # With offload only buffers belong on the device, and they are there already.
        if not self.cpu_offload:
            super().model_to_device()


def shard_policy(policy: Any, model: Any, strategy: FSDP2) -> None:
    """Shard ``policy`` in place, layer by layer; with tensor parallelism, this rank's part of each.

    Weights outside of layers (embedding, output head, last norm) are one group, so that tied
    weights stay tied. They are plain tensors only within ``policy.score``: nothing else may compute
    with the model, and all ranks must score equally often.

    Raises:
        ConfigError: the model does not say which of its modules are layers, or how they are
            divided.
    """
    layers = layers_of(model)
    if not layers:
        raise ConfigError(
            f"trainer=fsdp2: {type(model).__name__} does not say which of its modules are layers "
            "(_no_split_modules)"
        )
    if strategy.tensor_parallel_size > 1:
        _apply_tensor_parallel(model, strategy.device_mesh["tensor_parallel"])
    mixed = MixedPrecisionPolicy()
    if strategy.param_dtype is not None:
        mixed = MixedPrecisionPolicy(
            param_dtype=getattr(torch, strategy.param_dtype), reduce_dtype=torch.float32
        )
    offload = OffloadPolicy()
    if strategy.cpu_offload:
        offload = CPUOffloadPolicy(pin_memory=torch.cuda.is_available())
    mesh = strategy.device_mesh["data_parallel"]
    for module in [*layers, policy]:
        # The policy is resharded too: between two calls of score there are only shards.
        fully_shard(
            module, mesh=mesh, mp_policy=mixed, offload_policy=offload, reshard_after_forward=True
        )


def _apply_tensor_parallel(model: Any, mesh: DeviceMesh) -> None:
    """Give each rank of ``mesh`` its part of every layer (tensor parallelism), in place.

    The tensor-parallel plan is the one in the model's transformers config; embedding, norms and
    output head stay undivided.

    Raises:
        ConfigError: the config has no plan, or its plan has an unsupported style.
    """
    plan = getattr(model.config, "base_model_tp_plan", None) or {}
    plan = {name: style for name, style in plan.items() if name.startswith("layers.")}
    unsupported = sorted(set(plan.values()) - TP_STYLES.keys())
    reason = ""
    if not plan:
        reason = "transformers has no tensor-parallel plan for it"
    elif unsupported:
        reason = f"its plan has {', '.join(unsupported)}, supported are {', '.join(TP_STYLES)}"
    if reason:
        raise ConfigError(
            f"trainer=fsdp2_tp: the layers of {type(model).__name__} cannot be divided: {reason}; "
            "use trainer=fsdp2"
        )
    styles = {name: TP_STYLES[style]() for name, style in plan.items()}
    # No source rank: every rank has read the same weights, so nothing is broadcast.
    parallelize_module(model.get_decoder(), mesh, styles, src_data_rank=None)


def full_tensor(tensor: Tensor, device: torch.device) -> Tensor:
    """Return the full tensor of a shard, on every rank; all ranks must call it.

    A plain tensor is returned unchanged.
    """
    if isinstance(tensor, DTensor):
        return tensor.to(device).full_tensor()  # type: ignore[attr-defined]
    return tensor
