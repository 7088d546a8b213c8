"""Entropy by outcome and by the group's accuracy, and the share of high-entropy tokens."""

from typing import Any

import torch
from lightning import Callback, LightningModule, Trainer
from lightning.pytorch.loggers import TensorBoardLogger

from asym_lightning.checks import WholeNumber, validated
from asym_lightning.learner.batch import StepRecord
from asym_lightning.learner.policy import PolicyModule
from asym_lightning.metrics.dynamics import measure_entropy, upper_quantile
from asym_lightning.runtime.ranks import gather_rows


@validated
class EntropyDynamics(Callback):
    """Measures ``entropy/*`` of the iteration.

    ``entropy/high_share`` is the share of tokens whose entropy is above a fixed threshold, which a
    fifth of the first iteration's tokens exceeded (arXiv 2506.01939 looks at that fifth). The share
    starts at .2 and falls as choices close.

    Args:
        histogram_every: iterations between TensorBoard histograms of the groups' accuracy; 0
            writes none.
    """

    # Also the tokens of rollouts that nothing is learned from.
    reads_every_token = True

    def __init__(self, histogram_every: WholeNumber = 10):
        self.histogram_every = histogram_every
        self.threshold: float | None = None
        self._records: list[StepRecord] = []

    def on_train_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
    ) -> None:
        self._records.append(outputs["record"])

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        assert isinstance(pl_module, PolicyModule)
        meter, dp_group = pl_module.meter, pl_module.rollout_shard.dp_group
        records, self._records = self._records, []
        for record in records:
            measure_entropy(record, meter)
        entropy = torch.cat([record.entropy for record in records])
        token_weights = torch.cat([record.token_weights for record in records])
        if self.threshold is None:
            table = torch.stack([entropy, token_weights.to(entropy.dtype)], 1)
            gathered, weights = gather_rows(table, dp_group)[0].T
            self.threshold = upper_quantile(gathered, weights, 0.2) if len(gathered) else None
        if self.threshold is not None:
            high_weight = token_weights[entropy > self.threshold].sum()
            meter.mean("entropy/high_share", high_weight, token_weights.sum())
        if self.histogram_every and trainer.current_epoch % self.histogram_every == 0:
            accuracy = torch.cat([record.batch.correct.double().mean(1) for record in records])
            accuracy = gather_rows(accuracy[:, None], dp_group)[0][:, 0].cpu()
            for logger in trainer.loggers:
                if isinstance(logger, TensorBoardLogger):
                    logger.experiment.add_histogram(
                        "accuracy/groups", accuracy, trainer.current_epoch
                    )

    def state_dict(self) -> dict[str, Any]:
        return {"threshold": self.threshold}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.threshold = state_dict["threshold"]
