"""Where the policy is uncertain: entropy by outcome and by the accuracy of the group, the share of high-entropy tokens."""

from typing import Any

import torch
from lightning import Callback, LightningModule, Trainer
from lightning.pytorch.loggers import TensorBoardLogger

from asym_lightning.checks import whole_number
from asym_lightning.learner.policy import PolicyModule
from asym_lightning.metrics.dynamics import measure_entropy, upper_quantile
from asym_lightning.runtime.ranks import gather_rows


class EntropyDynamics(Callback):
    """``entropy/*`` of the iteration. ``entropy/high_share`` is the share of tokens whose entropy exceeds what the upper fifth of the
    first iteration's tokens exceeded (arXiv 2506.01939 looks at that fifth): it starts at .2 and falls as choices close.

    Args:
        histogram_every: iterations between TensorBoard histograms of the groups' accuracy; 0 writes none.
    """

    reads_every_token = True  # those of rollouts too that nothing is learned from

    def __init__(self, histogram_every: int = 10):
        whole_number("callbacks.dynamics.histogram_every", histogram_every, 0)
        self.histogram_every = histogram_every
        self.threshold: float | None = None

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        assert isinstance(pl_module, PolicyModule)
        batches = trainer.datamodule.mini_batches  # type: ignore[attr-defined]
        for batch in batches:
            measure_entropy(batch, pl_module.meter)
        entropy = torch.cat([batch.tokens("entropy") for batch in batches])
        standing = torch.cat([batch.standing() for batch in batches])
        if self.threshold is None:
            everywhere, weights = gather_rows(torch.stack([entropy, standing.to(entropy.dtype)], 1), pl_module.share.peers)[0].T
            self.threshold = upper_quantile(everywhere, weights, 0.2) if len(everywhere) else None
        if self.threshold is not None:
            pl_module.meter.mean("entropy/high_share", standing[entropy > self.threshold].sum(), standing.sum())
        if self.histogram_every and trainer.current_epoch % self.histogram_every == 0:
            accuracy = torch.cat([batch.right.double().mean(1) for batch in batches])
            accuracy = gather_rows(accuracy[:, None], pl_module.share.peers)[0][:, 0].cpu()
            for logger in trainer.loggers:
                if isinstance(logger, TensorBoardLogger):
                    logger.experiment.add_histogram("accuracy/groups", accuracy, trainer.current_epoch)

    def state_dict(self) -> dict[str, Any]:
        return {"threshold": self.threshold}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.threshold = state_dict["threshold"]
