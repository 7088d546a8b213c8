"""What each update did to the tokens it learned from: the entropy ledger, and the gain in log-probability."""

from typing import Any

import torch
from lightning import Callback, LightningModule, Trainer
from torch import Tensor

from asym_lightning.checks import number, positive_int
from asym_lightning.learner.batch import MiniBatch, PackedBatch
from asym_lightning.learner.datamodule import RolloutDataModule
from asym_lightning.learner.packing import bins_of, pack_units, units
from asym_lightning.learner.policy import PolicyModule
from asym_lightning.metrics.ledger import entry, ledger_sums
from asym_lightning.runtime.ranks import over_ranks

CHANNELS = ("measured_positive", "measured_negative", "predicted_positive", "predicted_negative")


class EntropyLedger(Callback):
    """Scores a few groups again after every ``every``-th update and writes down, in nats per token,

    - per iteration, summed over those of its updates: ``ledger/measured_{positive,negative}``, the change of entropy on tokens of right
      and of wrong rollouts, ``ledger/predicted_{positive,negative}``, what the first-order theory says that they contributed
      (asym_lightning/metrics/ledger.py), and ``ledger/step_size``, its eta (mean over updates);
    - since the start: the same four as ``ledger/total_*``, each update standing for ``every``; ``ledger/ratio``, all that was
      predicted over all that was measured; and ``ledger/explained`` = 1 - sum (measured - predicted)^2 / sum measured^2 over the
      updates, 1 where every prediction was right.

    ``logprob_gain/{positive,negative}``: mean over right and over wrong rollouts of the log-prob per token (nats) after the update minus
    before it, mean over updates; below 0 on right ones it is lazy likelihood displacement (arXiv 2505.18830).

    Args:
        share: of the groups of a mini-batch, at least one per rank.
        every: updates from one that is looked at to the next; the first one is.
    """

    reads_every_token = True  # those of rollouts too that nothing is learned from

    def __init__(self, share: float = 0.125, every: int = 1):
        number("callbacks.ledger.share", share, 0, 1, open_low=True)
        positive_int("callbacks.ledger.every", every)
        self.share, self.every = share, every
        self._updates: list[Tensor] = []
        self._totals = dict.fromkeys((*CHANNELS, "squares", "errors"), 0.0)

    @torch.no_grad()
    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: MiniBatch, batch_idx: int) -> None:
        assert isinstance(pl_module, PolicyModule)
        if (pl_module.global_step - 1) % self.every:
            return
        groups, size = batch.right.shape
        inside = self._sampled_tokens(batch, pl_module.seed * 1_000_003 + pl_module.global_step)
        rows = batch.tokens("rows")[inside]
        of_group = rows // size
        packed = self._packed(trainer.datamodule, batch, rows)  # type: ignore[attr-defined]
        with trainer.precision_plugin.forward_context():
            scores = [pl_module.score(micro.to(pl_module.device)) for micro in packed]
        order = torch.cat([micro.rows for micro in packed]).argsort(stable=True).to(rows.device)  # by rollout, as those before
        new_logp, new_entropy = (torch.cat([getattr(one, name) for one in scores])[order] for name in ("logp", "entropy"))
        weights = pl_module.algorithm.aggregation.weights(batch.lengths[rows], batch.token_count, batch.rollout_count)
        logp, entropy, advantages = (batch.tokens(name)[inside] for name in ("logp", "entropy", "advantages"))
        advantages = advantages * weights * batch.token_count
        sums = torch.zeros(groups, dtype=advantages.dtype, device=rows.device).index_add(0, of_group, advantages)
        baseline = (sums / of_group.bincount(minlength=groups).clamp(min=1))[of_group]
        positive = batch.right.flatten()[rows]
        standing = batch.standing()[inside].double()
        self._updates.append(ledger_sums((logp, entropy), (new_logp, new_entropy), advantages, baseline, positive, standing))
        per_token = standing / batch.lengths[rows]  # summed over a rollout's tokens: what it stands for
        gain = per_token * (new_logp - logp).double()
        pl_module.meter.mean("logprob_gain/positive", gain[positive].sum(), per_token[positive].sum())
        pl_module.meter.mean("logprob_gain/negative", gain[~positive].sum(), per_token[~positive].sum())

    def _packed(self, data: RolloutDataModule, batch: MiniBatch, rows: Tensor) -> list[PackedBatch]:
        """The rollouts that tokens are of, under the learner's token budget, in equally many micro-batches on every rank."""
        budget, share = data.tokens_per_micro_batch, data.share_prompts
        kept = torch.zeros(batch.right.numel(), dtype=torch.bool).index_fill(0, rows.unique().cpu(), True).tolist()
        parts = units(batch.groups, budget, kept, share)
        most = int(over_ranks(torch.tensor(len(bins_of(parts, budget))), "max"))
        return pack_units(parts, budget, share, max(1, most))

    def _sampled_tokens(self, batch: MiniBatch, seed: int) -> Tensor:
        """Where the tokens of some groups are among those of the mini-batch, by rollout, as they are packed; of rollouts that stand for
        others, those of these alone."""
        groups, size = batch.right.shape
        chosen = torch.randperm(groups, generator=torch.Generator().manual_seed(seed))[: max(1, round(self.share * groups))]
        rows = batch.tokens("rows")
        inside = (torch.isin(rows // size, chosen.to(rows.device)) & (batch.standing() > 0)).nonzero()[:, 0]
        return inside[rows[inside].argsort(stable=True)]

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        assert isinstance(pl_module, PolicyModule)
        if not self._updates:
            return
        entries = [entry(sums) for sums in over_ranks(torch.stack(self._updates), "sum")]
        self._updates = []
        totals = self._totals
        shown = {name: sum(getattr(made, name) for made in entries) for name in CHANNELS}
        for name, value in list(shown.items()):
            totals[name] += self.every * value
            shown[f"total_{name}"] = totals[name]
        totals["squares"] += sum(made.measured**2 for made in entries)
        totals["errors"] += sum((made.measured - made.predicted) ** 2 for made in entries)
        shown["step_size"] = sum(made.step_size for made in entries) / len(entries)
        measured = totals["measured_positive"] + totals["measured_negative"]
        if measured:
            shown["ratio"] = (totals["predicted_positive"] + totals["predicted_negative"]) / measured
        if totals["squares"]:
            shown["explained"] = 1 - totals["errors"] / totals["squares"]
        for name, value in shown.items():
            pl_module.meter.mean(f"ledger/{name}", value, 1)

    def state_dict(self) -> dict[str, Any]:
        return dict(self._totals)

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self._totals = dict(state_dict)
