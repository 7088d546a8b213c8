"""How fast the learner is, how much of its work is waste, and how much memory it takes."""

import sys
from typing import Any

import psutil
import torch
from lightning import Callback, LightningModule, Trainer

from asym_lightning.learner.batch import MiniBatch
from asym_lightning.learner.policy import PolicyModule
from asym_lightning.metrics.throughput import Work, work_of
from callbacks.vllm_rollout import VLLMRollout


class Throughput(Callback):
    """``throughput/*`` and ``memory/*`` of the iteration; what is derived from times is worked out when they are known."""

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: MiniBatch, batch_idx: int) -> None:
        assert isinstance(pl_module, PolicyModule)
        work: Work = work_of(batch, pl_module.model.config)
        meter, parts = pl_module.meter, pl_module.share.count
        batches = trainer.num_training_batches
        meter.mean("throughput/wasted_share", work.computed - work.useful, work.computed)
        meter.mean("throughput/learned_tokens", work.completion_tokens * parts, 1 / batches)  # type: ignore[operator]
        meter.mean("throughput/flops", work.flops * parts, 1 / batches)  # type: ignore[operator]

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        assert isinstance(pl_module, PolicyModule)
        if pl_module.device.type == "cuda":
            rollout = next(c for c in trainer.callbacks if isinstance(c, VLLMRollout))  # type: ignore[attr-defined]
            most = torch.cuda.max_memory_allocated(pl_module.device) - rollout.engine_bytes
            torch.cuda.reset_peak_memory_stats(pl_module.device)
        else:
            memory = psutil.Process().memory_info()
            most = getattr(memory, "peak_wset", None) or _most_resident() or memory.rss
        pl_module.meter.maximum("memory/peak_gib", torch.tensor([most / 2**30]))


def _most_resident() -> int | None:
    """The most memory that this process has held since it started (bytes), where the system says."""
    try:
        import resource
    except ImportError:
        return None
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
