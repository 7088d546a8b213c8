"""Scores of the reference model: the initial policy, which modulations compare the policy with."""

from collections.abc import Sequence
from typing import Any

import torch

from asym_lightning.learner.adapters import without_adapters
from asym_lightning.learner.batch import MiniBatch


@torch.no_grad()
def score_reference(policy: Any, reference: Any, batches: Sequence[MiniBatch]) -> None:
    """Set the reference's log-probs on every micro-batch, and add reward terms to the rewards.

    Args:
        policy: a :class:`~asym_lightning.learner.policy.PolicyModule`.
        reference: the initial model, or the policy's own, whose adapters are switched off here.
    """
    meter = policy.meter
    for batch in batches:
        terms = torch.zeros(batch.rewards.numel())
        for micro in batch.micro_batches:
            with policy.trainer.precision_plugin.forward_context(), without_adapters(reference):
                scores = policy.score(micro.to(policy.device), model=reference)
                reference_logp = scores.logp.float().cpu()
            micro.reference_logp = reference_logp
            for modulation in policy.algorithm.modulation:
                term = modulation.reward_term(micro.engine_logp, reference_logp)
                if term is not None:
                    terms.index_add_(0, micro.rows, term)
            gap = micro.engine_logp - reference_logp
            meter.mean("kl/reference", gap.sum(), gap.numel())
        batch.rewards = batch.rewards + terms.view_as(batch.rewards)
        meter.mean("reward/kl_term", terms.sum(), terms.numel())
