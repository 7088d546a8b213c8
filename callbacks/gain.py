"""How much more likely the update made the rollouts it learned from."""

import torch
from lightning import Callback, LightningModule, Trainer

from asym_lightning.policy import PolicyModule


class LogprobGain(Callback):
    """``logprob_gain/{positive,negative}``: mean over right and over wrong rollouts of the log-prob per token (nats) after the
    iteration's updates minus before them; negative on right ones is lazy likelihood displacement (arXiv 2505.18830).

    Args:
        every: iterations between two measurements, each one forward pass over the rollouts; 0 turns it off.
    """

    def __init__(self, every: int = 10):
        self.every = every

    @torch.no_grad()
    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        assert isinstance(pl_module, PolicyModule)
        if not self.every or trainer.current_epoch % self.every:
            return
        for batch in trainer.datamodule.mini_batches:  # type: ignore[attr-defined]
            gain = torch.zeros(batch.rewards.numel(), device=pl_module.device)
            with trainer.precision_plugin.forward_context():
                for micro in batch.micro_batches:
                    gain.index_add_(0, micro.rows, pl_module.score(micro)[0].float() - micro.old_logp)
            gain /= batch.lengths
            positive = batch.right.flatten()
            pl_module.meter.mean("logprob_gain/positive", gain[positive].sum(), positive.sum())
            pl_module.meter.mean("logprob_gain/negative", gain[~positive].sum(), (~positive).sum())
