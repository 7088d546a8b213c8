"""DeepSpeed's ZeRO (arXiv 1910.02054) as a strategy: optimizer state, gradients and weights divided among the ranks by its engine."""

import os
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext, redirect_stdout
from datetime import timedelta
from importlib.util import find_spec
from io import StringIO
from math import inf
from pathlib import Path
from typing import Any

import torch
from lightning import Trainer
from lightning.pytorch.accelerators import CPUAccelerator
from lightning.pytorch.plugins.precision import DeepSpeedPrecision, Precision
from lightning.pytorch.strategies import DDPStrategy, DeepSpeedStrategy
from torch import Tensor

from asym_lightning.checks import number, one_of, switch
from asym_lightning.runtime import how_to_install
from asym_lightning.types import ConfigError


class SamePrecision(DeepSpeedPrecision):
    """What ``trainer.precision`` means for every other strategy: weights in fp32, products in bf16 for ``bf16-mixed``; rewards and
    log-probs that come with a batch stay as they are."""

    device = "cuda"

    def convert_input(self, data: Any) -> Any:
        return data

    def forward_context(self) -> AbstractContextManager:
        return torch.autocast(self.device, torch.bfloat16) if self.precision == "bf16-mixed" else nullcontext()


class DeepSpeed(DeepSpeedStrategy):
    """Lightning's strategy for DeepSpeed, on CPUs too (with gloo). Every forward pass of the policy goes through DeepSpeed's engine, so
    that several micro-batches make one update; the engine clips gradients. A checkpoint is a folder, with the parts of every rank.

    Args:
        stage: 1 divides optimizer state, 2 gradients too, 3 weights too.
        cpu_offload: optimizer state is in the host's memory and updated there.
        param_dtype: what the policy's weights are kept and computed with (``bfloat16``), beside an fp32 copy that is divided among the
            ranks and updated; null: fp32.
        timeout_minutes: how long a rank waits for another one before the run fails; under a watchdog at least twice its limit, once
            training has begun.

    Raises:
        ConfigError: a value that is none of these, or DeepSpeed is not installed.
    """

    def __init__(self, stage: int = 2, cpu_offload: bool = False, param_dtype: str | None = None, timeout_minutes: float = 30):
        one_of("trainer.strategy.stage", stage, (1, 2, 3))
        switch("trainer.strategy.cpu_offload", cpu_offload)
        one_of("trainer.strategy.param_dtype", param_dtype, (None, "bfloat16"))
        number("trainer.strategy.timeout_minutes", timeout_minutes, 0, open_low=True)
        if find_spec("deepspeed") is None:
            raise ConfigError(f"trainer=deepspeed needs deepspeed, which is not installed: {how_to_install('deepspeed')}")
        name_device()
        buckets = {"reduce_bucket_size": 200_000_000, "allgather_bucket_size": 200_000_000}  # Lightning's, below half of DeepSpeed's
        zero: dict[str, Any] = {"stage": stage, **buckets}
        if cpu_offload:
            zero["offload_optimizer"] = {"device": "cpu", "pin_memory": torch.cuda.is_available()}
        config: dict[str, Any] = {
            "zero_optimization": zero,
            "zero_allow_untested_optimizer": True,
            "zero_force_ds_cpu_optimizer": False,  # torch's fused AdamW does, and needs no compiler
            "train_micro_batch_size_per_gpu": 1,  # of its own speed report, which is off
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
        self._precision_plugin = plugin

    def setup_environment(self) -> None:
        if isinstance(self.accelerator, CPUAccelerator):  # Lightning allows GPUs alone; it and DeepSpeed know devices by their numbers
            import deepspeed.ops
            from deepspeed.accelerator import set_accelerator
            from deepspeed.accelerator.cpu_accelerator import CPU_Accelerator

            set_accelerator(CPU_Accelerator())  # there may be a GPU, too
            deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False  # would be compiled now, and only inference needs it
            self.precision_plugin.device = "cpu"  # type: ignore[attr-defined]
            self.parallel_devices = [torch.device("cpu", i) for i in range(self.num_processes)]
            DDPStrategy.setup_environment(self)
        else:
            super().setup_environment()

    def _format_config(self) -> None:
        """Lightning's, but for its precision, which would make of the weights what they are computed with."""
        assert isinstance(self.config, dict) and self.lightning_module is not None
        settings: Any = self.lightning_module.settings
        self.config["gradient_clipping"] = settings.max_grad_norm
        self._format_batch_size_and_grad_accum_config()

    def setup(self, trainer: Trainer) -> None:
        super().setup(trainer)
        engine, policy = self.deepspeed_engine, self.lightning_module
        policy.score = lambda *given, **named: engine(*given, **named)  # type: ignore[union-attr, assignment]

    def training_step(self, *given: Any, **named: Any) -> Any:
        assert self.lightning_module is not None
        with self.precision_plugin.train_step_context():  # within the engine are the forward passes alone
            return self.lightning_module.training_step(*given, **named)

    def last_backward(self, last: bool) -> None:
        """Whether the backward pass to come is the last one of an update."""
        self.deepspeed_engine.set_gradient_accumulation_boundary(last)

    def step(self, optimizer: Any) -> Tensor:
        """Clip gradients and update the weights; the norm before that.

        Raises:
            FloatingPointError: a gradient that is not finite; with fp32 weights DeepSpeed would go on without a word.
        """
        optimizer.step()
        norm = torch.as_tensor(self.deepspeed_engine.get_global_grad_norm())
        if not 0 <= float(norm) < inf or getattr(self.deepspeed_engine.optimizer, "overflow", False):  # a norm of -1 says so, too
            raise FloatingPointError(f"the gradient is not finite (norm {float(norm):g}); DeepSpeed may have left the update out")
        return norm


def whole_state(checkpoint: Path) -> dict[str, Tensor]:
    """The weights of a checkpoint in parts, in fp32, under their names in the policy. It is unpickled: only open what you wrote."""
    name_device()
    from deepspeed.utils.zero_to_fp32 import get_fp32_state_dict_from_zero_checkpoint

    with redirect_stdout(StringIO()):
        return get_fp32_state_dict_from_zero_checkpoint(str(checkpoint))


def name_device() -> None:
    """Tell DeepSpeed where there is no GPU; it would warn that it found none when it is imported, as transformers does with it."""
    if not torch.cuda.is_available():
        os.environ.setdefault("DS_ACCELERATOR", "cpu")


def present(tensors: Sequence[Tensor]) -> AbstractContextManager:
    """Within it the tensors are whole, on every rank; all ranks must ask for the same ones. Others than parts of ZeRO are so anyway."""
    parts = [tensor for tensor in tensors if hasattr(tensor, "ds_id")]
    if not parts:
        return nullcontext()
    import deepspeed

    return deepspeed.zero.GatheredParameters(parts)
