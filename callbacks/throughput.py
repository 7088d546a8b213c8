"""The learner's speed, the wasted share of its work, and its memory."""

import sys
from typing import Any

import psutil
import torch
from lightning import Callback, LightningModule, Trainer

from asym_lightning.learner.batch import MiniBatch
from asym_lightning.learner.policy import PolicyModule
from asym_lightning.metrics.throughput import Work, step_work
from callbacks.parts import RunParts


class Throughput(Callback):
    """Measures ``throughput/*`` and ``memory/*`` of the iteration.

    Rates are derived later, by the recorder, when all times are known.
    """

    def take_parts(self, parts: RunParts) -> None:
        self._rollout = parts.rollout

    def on_train_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: MiniBatch,
        batch_idx: int,
    ) -> None:
        assert isinstance(pl_module, PolicyModule)
        work: Work = step_work(outputs["record"], pl_module.model.config)
        meter, parts = pl_module.meter, pl_module.rollout_shard.count
        batches = trainer.num_training_batches
        meter.mean("throughput/wasted_share", work.computed - work.useful, work.computed)
        share = 1 / batches  # type: ignore[operator]
        meter.mean("throughput/learned_tokens", work.completion_tokens * parts, share)
        meter.mean("throughput/flops", work.flops * parts, share)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        assert isinstance(pl_module, PolicyModule)
        if pl_module.device.type == "cuda":
            peak = torch.cuda.max_memory_allocated(pl_module.device) - self._rollout.engine_bytes
            torch.cuda.reset_peak_memory_stats(pl_module.device)
        else:
            memory = psutil.Process().memory_info()
            peak = getattr(memory, "peak_wset", None) or _peak_resident() or memory.rss
        pl_module.meter.maximum("memory/peak_gib", torch.tensor([peak / 2**30]))


def _peak_resident() -> int | None:
    """The largest resident memory of this process so far (bytes); None if the system lacks it."""
    try:
        import resource
    except ImportError:
        return None
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
