"""Scores from before the first update of an iteration: old log-probs and those of the reference.

The reference is the initial policy, which modulations compare the policy with.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from asym_lightning.learner.adapters import without_adapters
from asym_lightning.learner.batch import MiniBatch, PriorLogProbs
from asym_lightning.learner.engine_check import compare_with_engine


@dataclass(frozen=True)
class Prior:
    """A mini-batch before the updates: log-probs by micro-batch, and the rewards to learn from."""

    logprobs: Sequence[PriorLogProbs]
    rewards: Float[Tensor, "groups G"]


def score_priors(policy: Any, batches: Sequence[MiniBatch], reference: Any) -> list[Prior]:
    """Score the mini-batches of an iteration before its first update.

    The old log-probs are the engine's as sampled (``policy.old_is_engine``), or, for several
    updates, scored once by the policy. A single update takes them from its own forward pass.

    Args:
        policy: a :class:`~asym_lightning.learner.policy.PolicyModule`.
        reference: the initial model, or the policy's own, whose adapters are switched off for it;
            None if no modulation needs one.
    """
    rewards = [batch.rewards for batch in batches]
    references: list[list[Any]] = [[None] * len(batch.micro_batches) for batch in batches]
    if reference is not None:
        for i, batch in enumerate(batches):
            references[i], terms = score_reference(policy, reference, batch)
            rewards[i] = batch.rewards + terms
    olds = old_logprobs(policy, batches)
    logprobs = [
        [PriorLogProbs(old, of_reference) for old, of_reference in zip(*both, strict=True)]
        for both in zip(olds, references, strict=True)
    ]
    return [Prior(*both) for both in zip(logprobs, rewards, strict=True)]


def old_logprobs(policy: Any, batches: Sequence[MiniBatch]) -> list[list[Any]]:
    """Return the old log-probs of each micro-batch; None if a step takes them from its own pass."""
    if policy.old_is_engine:
        return [[micro.engine_logp for micro in batch.micro_batches] for batch in batches]
    if len(batches) == 1:
        return [[None] * len(batch.micro_batches) for batch in batches]
    start = time.perf_counter()
    olds: list[list[Any]] = [[] for _ in batches]
    compared = []
    with torch.no_grad(), policy.trainer.precision_plugin.forward_context():
        for batch, of_batch in zip(batches, olds, strict=True):
            for micro in batch.micro_batches:
                old = policy.score(micro.to(policy.device)).logp
                compared.append((micro, old))
                of_batch.append(old.cpu())
        compare_with_engine(policy, compared, measure=True)
    policy.meter.mean("time/score", time.perf_counter() - start, 1)
    return olds


@torch.no_grad()
def score_reference(
    policy: Any, reference: Any, batch: MiniBatch
) -> tuple[list[Float[Tensor, "n"]], Float[Tensor, "groups G"]]:
    """Return the reference's log-probs by micro-batch, and the terms to add to the rewards."""
    meter, logprobs = policy.meter, []
    terms = torch.zeros(batch.rewards.numel())
    for micro in batch.micro_batches:
        with policy.trainer.precision_plugin.forward_context(), without_adapters(reference):
            scores = policy.score(micro.to(policy.device), model=reference)
            logp = scores.logp.float().cpu()
        logprobs.append(logp)
        for modulation in policy.algorithm.modulation:
            term = modulation.reward_term(micro.engine_logp, logp)
            if term is not None:
                terms.index_add_(0, micro.rows, term)
        gap = micro.engine_logp - logp
        meter.mean("kl/reference", gap.sum(), gap.numel())
    meter.mean("reward/kl_term", terms.sum(), terms.numel())
    return logprobs, terms.view_as(batch.rewards)
