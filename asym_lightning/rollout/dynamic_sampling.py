"""DAPO's dynamic sampling: groups without a signal, whose rewards are all equal, are replaced."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

from asym_lightning.rollout.base import Sampling
from asym_lightning.rollout.collect import CollectedRollouts, RolloutCollector, SamplingRequest
from asym_lightning.runtime.ranks import reduce_over_ranks
from asym_lightning.types import Prompt, RolloutGroup


@dataclass(frozen=True)
class Refilled:
    """The groups to learn from, all groups that were sampled, and the number of their batches."""

    groups: list[RolloutGroup]
    sampled: list[RolloutGroup]
    batches: int


def has_signal(group: RolloutGroup) -> bool:
    """Whether the rewards of a group differ."""
    return len(set(group.rewards)) > 1


def refill(
    collector: RolloutCollector,
    collected: CollectedRollouts,
    max_batches: int,
    *,
    sampling: Sampling,
    spare_prompts: Callable[[int], Sequence[tuple[int, Prompt]]],
    observe: Callable[[Sequence[RolloutGroup]], None],
) -> Refilled:
    """Replace the groups without a signal; their number stays the same.

    Groups without a signal are left only if ``max_batches`` generation batches do not suffice.
    Each rank keeps its own groups; all generate as many as the rank that misses most.

    Args:
        collected: the rollouts of the iteration; the further ones are added to it.
        spare_prompts: takes a number of further prompts.
        observe: is told of the further groups.
    """
    sampled, batches = list(collected.train), 1
    count_wanted = len(sampled)
    kept = [group for group in sampled if has_signal(group)]
    while batches < max_batches:
        missing = count_wanted - len(kept)
        count = 0
        if missing > 0:
            # As many as the share of groups with a signal so far calls for.
            count = min(count_wanted, -(-missing * len(sampled) // max(1, len(kept))))
        count = int(reduce_over_ranks(torch.tensor(count), "max"))
        if not count:
            break
        request = SamplingRequest(spare_prompts(count), sampling, "refill")
        further = collector.collect(request, collected)
        observe(further)
        kept += [group for group in further if has_signal(group)]
        sampled += further
        batches += 1
    without_signal = [group for group in sampled if not has_signal(group)]
    return Refilled((kept + without_signal)[:count_wanted], sampled, batches)
