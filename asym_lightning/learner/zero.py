"""DeepSpeed's ZeRO (arXiv 1910.02054) as a strategy.

DeepSpeed's engine divides optimizer state, gradients and weights among the ranks.
"""

import os
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext, redirect_stdout
from datetime import timedelta
from importlib.util import find_spec
from io import StringIO
from math import inf
from pathlib import Path
from typing import Annotated, Any, Literal

import torch
from lightning.pytorch.accelerators import CPUAccelerator
from lightning.pytorch.plugins.precision import DeepSpeedPrecision, Precision
from lightning.pytorch.strategies import DDPStrategy
from torch import Tensor

from asym_lightning.checks import NoBool, Positive, one_of, validated
from asym_lightning.learner.deepspeed_patches import (
    is_divided,
    leave_out_shared_memory,
    overflowed,
)
from asym_lightning.runtime import how_to_install
from asym_lightning.runtime.lightning_patches import PlainDeepSpeedStrategy
from asym_lightning.types import ConfigError


class SamePrecision(DeepSpeedPrecision):
    """``trainer.precision`` with the meaning that it has under every other strategy.

    Weights are in fp32, matrix products in bf16 for ``bf16-mixed``; rewards and log-probs of a
    batch are not cast.
    """

    device = "cuda"

    def convert_input(self, data: Any) -> Any:
        return data

    def forward_context(self) -> AbstractContextManager:
        if self.precision == "bf16-mixed":
            return torch.autocast(self.device, torch.bfloat16)
        return nullcontext()


@validated
class DeepSpeed(PlainDeepSpeedStrategy):
    """Lightning's strategy for DeepSpeed, on CPUs too (with gloo).

    Every forward pass of the policy goes through DeepSpeed's engine, so that several micro-batches
    make one update; the engine clips gradients. A checkpoint is a folder with the parts of every
    rank.

    Args:
        stage: 1 divides optimizer state, 2 gradients too, 3 weights too.
        cpu_offload: keep optimizer state in the host's memory, and update it there.
        param_dtype: the dtype that the policy's weights are kept and computed in (``bfloat16``),
            beside an fp32 copy that is divided among the ranks and updated; null: fp32.
        timeout_minutes: how long a rank waits for another one before the run fails; under a
            watchdog at least twice its limit, once training has begun.

    Raises:
        FieldError: a value is out of range.
        ConfigError: DeepSpeed is not installed.
    """

    def __init__(
        self,
        stage: Annotated[Literal[1, 2, 3], NoBool] = 2,
        cpu_offload: bool = False,
        param_dtype: Literal["bfloat16"] | None = None,
        timeout_minutes: Positive = 30,
    ):
        if find_spec("deepspeed") is None:
            raise ConfigError(
                "trainer=deepspeed needs deepspeed, which is not installed: "
                f"{how_to_install('deepspeed')}"
            )
        set_deepspeed_device()
        # The bucket sizes are Lightning's, less than half of DeepSpeed's.
        zero: dict[str, Any] = {
            "stage": stage,
            "reduce_bucket_size": 200_000_000,
            "allgather_bucket_size": 200_000_000,
        }
        if cpu_offload:
            zero["offload_optimizer"] = {"device": "cpu", "pin_memory": torch.cuda.is_available()}
        config: dict[str, Any] = {
            "zero_optimization": zero,
            "zero_allow_untested_optimizer": True,
            # torch's fused AdamW updates on the CPU too, and needs no compiler.
            "zero_force_ds_cpu_optimizer": False,
            # Only for DeepSpeed's own report of speed, which is off.
            "train_micro_batch_size_per_gpu": 1,
            "bf16": {"enabled": param_dtype is not None},
        }
        super().__init__(config=config, timeout=timedelta(minutes=timeout_minutes))

    @property
    def precision_plugin(self) -> Precision:
        return super().precision_plugin

    @precision_plugin.setter
    def precision_plugin(self, plugin: Precision | None) -> None:
        if isinstance(plugin, DeepSpeedPrecision):
            one_of("trainer.precision", plugin.precision, ("32-true", "bf16-mixed"))
            plugin = SamePrecision(plugin.precision)  # type: ignore[arg-type]
        DDPStrategy.precision_plugin.fset(self, plugin)  # type: ignore[attr-defined]

    def setup_environment(self) -> None:
        if not isinstance(self.accelerator, CPUAccelerator):
            super().setup_environment()
            return
        # Lightning's strategy only allows GPUs, so that the environment of DDP is set up instead.
        from deepspeed.accelerator import set_accelerator
        from deepspeed.accelerator.cpu_accelerator import CPU_Accelerator

        # The machine may have a GPU, which DeepSpeed would choose.
        set_accelerator(CPU_Accelerator())
        leave_out_shared_memory()
        self.precision_plugin.device = "cpu"  # type: ignore[attr-defined]
        # Lightning and DeepSpeed know devices by their numbers.
        self.parallel_devices = [torch.device("cpu", i) for i in range(self.num_processes)]
        DDPStrategy.setup_environment(self)

    def complete_config(self) -> None:
        assert isinstance(self.config, dict) and self.lightning_module is not None
        settings: Any = self.lightning_module.settings
        self.config["gradient_clipping"] = settings.max_grad_norm

    def training_step(self, *args: Any, **kwargs: Any) -> Any:
        assert self.lightning_module is not None
        # The module's own step, not the engine: only forward passes go through the engine.
        with self.precision_plugin.train_step_context():
            return self.lightning_module.training_step(*args, **kwargs)

    def last_backward(self, last: bool) -> None:
        """Tell the engine whether the next backward pass is the last one of an update."""
        self.deepspeed_engine.set_gradient_accumulation_boundary(last)

    def step(self, optimizer: Any) -> Tensor:
        """Update the weights, and return the norm of the gradient before DeepSpeed clipped it.

        DeepSpeed clips within its step (``gradient_clipping`` of its config).

        Raises:
            FloatingPointError: a gradient is not finite. It may have reached the weights: with fp32
                weights DeepSpeed does not check it.
        """
        optimizer.step()
        norm = torch.as_tensor(self.deepspeed_engine.get_global_grad_norm())
        # DeepSpeed gives -1 as the norm of a gradient that is not finite.
        if not 0 <= float(norm) < inf or overflowed(self.deepspeed_engine):
            raise FloatingPointError(
                f"the gradient is not finite (norm {float(norm):g}): "
                "DeepSpeed may have skipped or applied this update"
            )
        return norm


def full_state_dict(checkpoint: Path) -> dict[str, Tensor]:
    """Return the fp32 weights of a checkpoint in parts, under their names in the policy.

    The checkpoint is unpickled: only open one that you wrote.
    """
    set_deepspeed_device()
    from deepspeed.utils.zero_to_fp32 import get_fp32_state_dict_from_zero_checkpoint

    with redirect_stdout(StringIO()):
        return get_fp32_state_dict_from_zero_checkpoint(str(checkpoint))


def set_deepspeed_device() -> None:
    """Tell DeepSpeed to use the CPU if there is no GPU.

    Otherwise it warns on import that it found no GPU; transformers imports it too.
    """
    if not torch.cuda.is_available():
        os.environ.setdefault("DS_ACCELERATOR", "cpu")


def gathered(tensors: Sequence[Tensor]) -> AbstractContextManager:
    """Return a context in which the tensors are complete on every rank.

    All ranks must enter it with the same tensors. Tensors that ZeRO has not divided are complete
    anyway.
    """
    divided = [tensor for tensor in tensors if is_divided(tensor)]
    if not divided:
        return nullcontext()
    import deepspeed

    return deepspeed.zero.GatheredParameters(divided)
