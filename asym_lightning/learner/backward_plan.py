"""The plan of an optimizer step: which micro-batches are scored, and which have a backward pass."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from asym_lightning.learner.batch import MiniBatch, PackedBatch, PriorLogProbs
from asym_lightning.learner.packing import pack
from asym_lightning.types import RolloutGroup

# In a group whose advantages are all 0, one in this many rollouts is scored for diagnostics.
DIAGNOSTIC_STRIDE = 8


@dataclass(frozen=True)
class PlannedMicroBatch:
    """A micro-batch to score: with a backward pass if ``backward``, else for diagnostics."""

    micro: PackedBatch
    prior: PriorLogProbs
    backward: bool


@dataclass(frozen=True)
class BackwardPlan:
    """The micro-batches of an optimizer step, and each rollout's weight in diagnostics."""

    micro_batches: Sequence[PlannedMicroBatch]
    rollout_weights: Float[Tensor, "rollouts"]


def plan_backward(
    batch: MiniBatch,
    priors: Sequence[PriorLogProbs],
    advantages: Float[Tensor, "rollouts"],
    *,
    idle: Sequence[bool],
    reads: str,
    share_prompts: bool,
) -> BackwardPlan:
    """Plan an optimizer step over a mini-batch. Pure.

    Idle micro-batches, from which no gradient comes, have no backward pass. If nothing reads their
    tokens they are left out; if diagnostics do, some of their rollouts are scored, which represent
    the others by ``rollout_weights``; if a part of the algorithm does, all are scored.

    The last micro-batch always has a backward pass, even if its gradient is 0: with it the ranks
    reduce their gradients.

    Args:
        priors: the log-probs of each micro-batch from before the first update.
        idle: for each micro-batch whether it is idle on all ranks.
        reads: ``none``, ``some`` or ``all``: the rollouts of idle micro-batches that are read.
        share_prompts: whether the rollouts of a group have their prompt once in a micro-batch.
    """
    ones = torch.ones(advantages.numel(), device=advantages.device)
    backward = [not is_idle for is_idle in idle]
    backward[-1:] = [True]
    planned = [
        PlannedMicroBatch(micro, prior, has_backward)
        for micro, prior, has_backward in zip(batch.micro_batches, priors, backward, strict=True)
    ]
    if reads == "all":
        return BackwardPlan(planned, ones)
    if reads == "none":
        return BackwardPlan([item for item in planned if item.backward], ones)
    rows = torch.cat([micro.rows for micro in batch.micro_batches])
    nonzero = (advantages != 0).view_as(batch.correct)
    weights = diagnostic_weights(rows, nonzero, stride=DIAGNOSTIC_STRIDE)
    thinned_out = [
        item if item.backward else keep_weighted(item, batch.groups, weights, share=share_prompts)
        for item in planned
    ]
    return BackwardPlan(thinned_out, weights)


def diagnostic_weights(
    rollouts: Int[Tensor, "n"], nonzero: Bool[Tensor, "groups G"], stride: int
) -> Float[Tensor, "groups*G"]:
    """Return the weight of each rollout in diagnostics, where zero-advantage groups are thinned.

    Scoring every rollout of a group whose advantages are all 0 costs time and gives no gradient.
    Of such a group's packed rollouts only each ``stride``-th keeps a weight: the number of packed
    rollouts over the number of kept ones. The others have weight 0. In all other groups each
    rollout has weight 1. The weights depend neither on the order of packing nor on micro-batches.

    Args:
        rollouts: for each packed token its rollout, group * G + member. Rollouts that the loss
            leaves out (truncated ones, if masked) are not packed.
        nonzero: the rollouts with an advantage other than 0.
    """
    packed = torch.zeros_like(nonzero).flatten().index_fill(0, rollouts, True).view_as(nonzero)
    kept = packed & ((packed.cumsum(1) - 1) % stride == 0)
    weights = kept * packed.sum(1, keepdim=True) / kept.sum(1, keepdim=True).clamp(min=1)
    has_gradient = nonzero.any(1, keepdim=True)
    return torch.where(has_gradient, torch.ones_like(weights), weights).flatten()


def keep_weighted(
    item: PlannedMicroBatch,
    groups: Sequence[RolloutGroup],
    rollout_weights: Float[Tensor, "rollouts"],
    *,
    share: bool,
) -> PlannedMicroBatch:
    """Return a micro-batch without the rollouts of weight 0.

    Args:
        groups: all groups of the mini-batch.
        share: rollouts of a group have their prompt once.
    """
    micro, size, weights = item.micro, len(groups[0].completions), rollout_weights.tolist()
    rollouts = []
    for row in micro.rows.unique_consecutive().tolist():
        if weights[row]:
            group = groups[row // size]
            rollouts.append((row, group.prompt.token_ids, group.completions[row % size]))
    kept = rollout_weights[micro.rows] > 0
    prior = PriorLogProbs(
        old=None if item.prior.old is None else item.prior.old[kept],
        reference=None if item.prior.reference is None else item.prior.reference[kept],
    )
    packed = pack(rollouts, share).to(micro.input_ids.device)
    return PlannedMicroBatch(packed, prior, item.backward)
