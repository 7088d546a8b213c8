"""Idle micro-batches: no gradient comes from them, but diagnostics may need their tokens."""

from collections.abc import Sequence

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from asym_lightning.algorithms import Algorithm
from asym_lightning.learner.batch import MiniBatch, PackedBatch
from asym_lightning.learner.packing import pack
from asym_lightning.runtime.ranks import reduce_over_ranks
from asym_lightning.types import RolloutGroup

# In a group whose advantages are all 0, one in this many rollouts is scored for diagnostics.
DIAGNOSTIC_STRIDE = 8


def reduce_idle(
    batch: MiniBatch,
    advantages: Float[Tensor, "rollouts"],
    algorithm: Algorithm,
    *,
    callbacks_read: bool,
    share_prompts: bool,
) -> list[bool]:
    """Find the idle micro-batches of ``batch`` and reduce them to the rollouts that must be scored.

    A micro-batch is idle if no gradient comes from it on any rank: all its advantages are 0, and
    every modulation gives no gradient then (``idle_at_zero``). The last micro-batch never counts as
    idle: the ranks reduce their gradients with its backward pass, even if its gradient is 0.

    Idle micro-batches keep all rollouts if a part of the algorithm reads every token. If only
    callbacks do, they keep some rollouts, which represent the others by ``batch.rollout_weights``.
    Otherwise they are removed from ``batch``.

    Args:
        callbacks_read: a callback reads every token (``reads_every_token``).
        share_prompts: whether the rollouts of a group have their prompt once in a micro-batch.

    Returns:
        For each micro-batch that ``batch`` has afterwards, whether it is idle.
    """
    modulations = algorithm.modulation
    if not all(modulation.idle_at_zero for modulation in modulations):
        return [False] * len(batch.micro_batches)
    nonzero = advantages != 0
    flags = [nonzero[micro.rows].any() for micro in batch.micro_batches]
    idle = (reduce_over_ranks(torch.stack(flags).long(), "max") == 0).tolist() if flags else []
    idle[-1:] = [False]
    parts_observe = any(part.observes for part in algorithm.steered)
    if parts_observe or any(modulation.needs_batch for modulation in modulations):
        return idle
    pairs = list(zip(batch.micro_batches, idle, strict=True))
    if not callbacks_read:
        batch.micro_batches = [micro for micro, is_idle in pairs if not is_idle]
        return [False] * len(batch.micro_batches)
    weights = diagnostic_weights(
        batch.tokens("rows"), nonzero.view_as(batch.correct), stride=DIAGNOSTIC_STRIDE
    )
    batch.rollout_weights = weights
    batch.micro_batches = [
        keep_weighted(micro, batch.groups, weights, share_prompts=share_prompts)
        if is_idle
        else micro
        for micro, is_idle in pairs
    ]
    return idle


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
    micro: PackedBatch,
    groups: Sequence[RolloutGroup],
    rollout_weights: Float[Tensor, "rollouts"],
    *,
    share_prompts: bool,
) -> PackedBatch:
    """Return ``micro`` without the rollouts of weight 0.

    The others keep their old and reference log-probs.

    Args:
        groups: all groups of the mini-batch.
    """
    size, weights = len(groups[0].completions), rollout_weights.tolist()
    rollouts = []
    for row in dict.fromkeys(micro.rows.tolist()):
        if weights[row]:
            group = groups[row // size]
            rollouts.append((row, group.prompt.token_ids, group.completions[row % size]))
    packed = pack(rollouts, share_prompts)
    kept = rollout_weights[micro.rows] > 0
    if micro.old_logp is not None:
        packed.old_logp = micro.old_logp[kept.to(micro.old_logp.device)]
    if micro.reference_logp is not None:
        packed.reference_logp = micro.reference_logp[kept.to(micro.reference_logp.device)]
    return packed.to(micro.input_ids.device)
