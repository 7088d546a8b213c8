"""The names of DeepSpeed that this package uses and that DeepSpeed does not document."""

from typing import Any

from torch import Tensor


def leave_out_shared_memory() -> None:
    """Tell DeepSpeed that its reduction through shared memory cannot be built here.

    Needed on a CPU: DeepSpeed would compile it when the process group is made, and only inference
    needs it.

    Upstream: https://github.com/deepspeedai/DeepSpeed/issues/7625
    Versions: deepspeed>=0.19.8,<0.20 (tried with 0.19.8)
    """
    import deepspeed.ops

    deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False


def is_divided(tensor: Tensor) -> bool:
    """Whether ZeRO has divided a parameter among the ranks.

    Needed since ``GatheredParameters`` takes only such parameters, and DeepSpeed tells them by this
    attribute.

    Upstream: no issue found
    Versions: deepspeed>=0.19.8,<0.20 (tried with 0.19.8)
    """
    return hasattr(tensor, "ds_id")


def overflowed(engine: Any) -> bool:
    """Whether DeepSpeed's last step found a gradient that is not finite, and skipped the update.

    Needed since the step returns as if it had updated, and logs nothing with weights in bf16. The
    optimizer of fp32 weights does not look, and has no such attribute before its first step.

    Upstream: https://github.com/deepspeedai/DeepSpeed/issues/8415
    Versions: deepspeed>=0.19.8,<0.20 (tried with 0.19.8)
    """
    return bool(getattr(engine.optimizer, "overflow", False))
