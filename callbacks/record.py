"""Recording: one row of metrics per iteration to every logger, every rollout to Parquet."""

import time
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import torch
from lightning import Callback, LightningModule, Trainer

from asym_lightning.checks import WholeNumber, validated
from asym_lightning.learner.policy import PolicyModule
from asym_lightning.metrics.throughput import peak_flops, rates
from asym_lightning.rollout.groups import rows
from asym_lightning.runtime.ranks import reduce_over_ranks
from asym_lightning.types import RolloutGroup
from callbacks.vllm_rollout import VLLMRollout


@validated
@dataclass(frozen=True)
class RecordSettings:
    """The settings under ``callbacks.record``.

    Args:
        folder: the run directory.
        save_rollouts_every: iterations between Parquet files of all rollouts; 0 writes none.
    """

    folder: str
    save_rollouts_every: WholeNumber = 1


class Recorder(Callback):
    """Closes each iteration: reduces its metrics over all ranks and logs them.

    Args:
        settings: the folder of the files, and how often they are written.
        rollout: has the rollouts of the iteration.

    Attributes:
        history: one dict of metrics per iteration, on every rank.
        evaluation: the metrics of the evaluation ``before`` and ``after`` training; empty in a run
            without an evaluation.
    """

    def __init__(self, settings: RecordSettings, rollout: VLLMRollout):
        self.folder, self.save_rollouts_every = Path(settings.folder), settings.save_rollouts_every
        self._rollout = rollout
        self.history: list[dict[str, float]] = []
        self.evaluation: dict[str, dict[str, float]] = {}
        self._start = 0.0

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._start = time.perf_counter()

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        assert isinstance(pl_module, PolicyModule)
        start = time.perf_counter()
        iteration = trainer.current_epoch
        if self.save_rollouts_every and iteration % self.save_rollouts_every == 0:
            self._write(self._rollout.groups, iteration, trainer.global_rank)
        meter = pl_module.meter
        meter.mean("time/iteration", time.perf_counter() - self._start, 1)
        meter.mean("time/log", time.perf_counter() - start, 1)
        metrics = meter.compute(reduce_over_ranks, pl_module.device)
        peak = peak_flops(pl_module.device, str(trainer.precision))
        metrics |= rates(metrics, peak, trainer.world_size)
        self.history.append(metrics)
        trainer.callback_metrics.update(
            {name: torch.tensor(value) for name, value in metrics.items()}
        )
        for logger in trainer.loggers:
            logger.log_metrics(metrics, step=iteration)

    def _write(self, groups: list[RolloutGroup], iteration: int, rank: int) -> None:
        table = [{"iteration": iteration, **row} for row in rows(groups)]
        target = self.folder / "rollouts" / f"iteration-{iteration:06d}-rank-{rank}.parquet"
        target.parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(pa.Table.from_pylist(table), target)
