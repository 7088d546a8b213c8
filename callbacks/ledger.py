"""Effects of each update on the tokens it learned from: entropy ledger, and log-prob gain."""

from typing import Any

import torch
from lightning import Callback, LightningModule, Trainer
from torch import Tensor

from asym_lightning.checks import Count, PositiveShare, validated
from asym_lightning.learner.batch import MiniBatch, PackedBatch, StepRecord
from asym_lightning.learner.datamodule import RolloutDataModule
from asym_lightning.learner.packing import pack_bins, pack_units, packing_units
from asym_lightning.learner.policy import PolicyModule
from asym_lightning.metrics.ledger import entry, ledger_sums
from asym_lightning.runtime.ranks import reduce_over_ranks

CHANNELS = ("measured_positive", "measured_negative", "predicted_positive", "predicted_negative")


@validated
class EntropyLedger(Callback):
    """Scores a few groups again after every ``every``-th update, and logs in nats per token:

    - per iteration, summed over its updates: ``ledger/measured_{positive,negative}``, the change of
      entropy on tokens of correct and of wrong rollouts; ``ledger/predicted_{positive,negative}``,
      their contributions to first order in theory (asym_lightning/metrics/ledger.py); and
      ``ledger/step_size``, the eta of that theory (mean over updates);
    - since the start: the same four as ``ledger/total_*``, each update standing for ``every``;
      ``ledger/ratio``, the sum of predictions over the sum of measurements; and
      ``ledger/explained`` = 1 - sum (measured - predicted)^2 / sum measured^2 over the updates,
      which is 1 if every prediction was right.

    ``logprob_gain/{positive,negative}``: mean over correct and over wrong rollouts of the log-prob
    per token (nats) after the update minus before it, mean over updates; below 0 on correct
    rollouts it is lazy likelihood displacement (arXiv 2505.18830).

    Args:
        share: of the groups of a mini-batch, at least one per rank.
        every: updates from one that is scored to the next; the first one is scored.
    """

    # Also the tokens of rollouts that nothing is learned from.
    reads_every_token = True

    def __init__(self, share: PositiveShare = 0.125, every: Count = 1):
        self.share, self.every = share, every
        self._updates: list[Tensor] = []
        self._totals = dict.fromkeys((*CHANNELS, "squares", "errors"), 0.0)

    @torch.no_grad()
    def on_train_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: MiniBatch,
        batch_idx: int,
    ) -> None:
        assert isinstance(pl_module, PolicyModule)
        if (pl_module.global_step - 1) % self.every:
            return
        record: StepRecord = outputs["record"]
        seed = pl_module.seed * 1_000_003 + pl_module.global_step
        indices = self._sampled_tokens(record, seed)
        rows = record.rows[indices]
        packed = self._packed(trainer.datamodule, batch, rows)  # type: ignore[attr-defined]
        with trainer.precision_plugin.forward_context():
            scores = [pl_module.score(micro.to(pl_module.device)) for micro in packed]
        # Sort the new scores by rollout, as the tokens are at ``indices``.
        order = torch.cat([micro.rows for micro in packed]).argsort(stable=True).to(rows.device)
        new_logp = torch.cat([score.logp for score in scores])[order]
        new_entropy = torch.cat([score.entropy for score in scores])[order]
        logp, entropy = record.logp[indices], record.entropy[indices]
        advantages, baseline = self._advantages(pl_module, record, indices)
        positive = batch.correct.flatten()[rows]
        token_weights = record.token_weights[indices].double()
        sums = ledger_sums(
            (logp, entropy),
            (new_logp, new_entropy),
            advantages,
            baseline=baseline,
            positive=positive,
            weights=token_weights,
        )
        self._updates.append(sums)
        # The weights of a rollout's tokens sum to the number of rollouts that it stands for.
        weights = token_weights / batch.lengths[rows]
        gain = weights * (new_logp - logp).double()
        for outcome, tokens in {"positive": positive, "negative": ~positive}.items():
            total, count = gain[tokens].sum(), weights[tokens].sum()
            pl_module.meter.mean(f"logprob_gain/{outcome}", total, count)

    def _advantages(
        self, policy: PolicyModule, record: StepRecord, indices: Tensor
    ) -> tuple[Tensor, Tensor]:
        """The advantages of tokens, and for each token the mean of its group's.

        They are scaled by the token's weight in the loss, relative to a mean over tokens.
        """
        batch = record.batch
        groups, size = batch.correct.shape
        rows = record.rows[indices]
        group_of_token = rows // size
        weights = policy.algorithm.aggregation.weights(
            batch.lengths[rows], batch.token_count, batch.rollout_count
        )
        advantages = record.advantages[indices] * weights * batch.token_count
        zeros = torch.zeros(groups, dtype=advantages.dtype, device=rows.device)
        sums = zeros.index_add(0, group_of_token, advantages)
        counts = group_of_token.bincount(minlength=groups).clamp(min=1)
        return advantages, (sums / counts)[group_of_token]

    def _packed(self, data: RolloutDataModule, batch: MiniBatch, rows: Tensor) -> list[PackedBatch]:
        """The rollouts of the tokens with these ``rows``, under the learner's token budget.

        Every rank gets equally many micro-batches.
        """
        budget, share = data.tokens_per_micro_batch, data.share_prompts
        chosen = torch.zeros(batch.correct.numel(), dtype=torch.bool)
        chosen = chosen.index_fill(0, rows.unique().cpu(), True)
        units = packing_units(batch.groups, budget, chosen.tolist(), share_prompts=share)
        own = len(pack_bins(units, budget, padded=data.padded))
        count = int(reduce_over_ranks(torch.tensor(own), "max"))
        return pack_units(units, budget, share, count=max(1, count), padded=data.padded)

    def _sampled_tokens(self, record: StepRecord, seed: int) -> Tensor:
        """Indices of the tokens of randomly chosen groups in the mini-batch, sorted by rollout.

        Of rollouts that stand for others, these alone are included.
        """
        groups, size = record.batch.correct.shape
        permutation = torch.randperm(groups, generator=torch.Generator().manual_seed(seed))
        chosen = permutation[: max(1, round(self.share * groups))]
        rows = record.rows
        in_chosen_group = torch.isin(rows // size, chosen.to(rows.device))
        indices = (in_chosen_group & (record.token_weights > 0)).nonzero()[:, 0]
        return indices[rows[indices].argsort(stable=True)]

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        assert isinstance(pl_module, PolicyModule)
        if not self._updates:
            return
        entries = [entry(sums) for sums in reduce_over_ranks(torch.stack(self._updates), "sum")]
        self._updates = []
        totals = self._totals
        metrics = {name: sum(getattr(update, name) for update in entries) for name in CHANNELS}
        for name in CHANNELS:
            totals[name] += self.every * metrics[name]
            metrics[f"total_{name}"] = totals[name]
        totals["squares"] += sum(update.measured**2 for update in entries)
        totals["errors"] += sum((update.measured - update.predicted) ** 2 for update in entries)
        metrics["step_size"] = sum(update.step_size for update in entries) / len(entries)
        measured = totals["measured_positive"] + totals["measured_negative"]
        predicted = totals["predicted_positive"] + totals["predicted_negative"]
        if measured:
            metrics["ratio"] = predicted / measured
        if totals["squares"]:
            metrics["explained"] = 1 - totals["errors"] / totals["squares"]
        for name, value in metrics.items():
            pl_module.meter.mean(f"ledger/{name}", value, 1)

    def state_dict(self) -> dict[str, Any]:
        return dict(self._totals)

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self._totals = dict(state_dict)
