"""Packing of rollouts into micro-batches without padding."""

from collections.abc import Sequence
from itertools import chain, groupby

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from asym_lightning.learner.attention import Layout, Segment
from asym_lightning.learner.batch import PackedBatch
from asym_lightning.types import Completion, RolloutGroup

Rollout = tuple[int, Sequence[int], Completion]  # row, prompt ids, completion
Unit = list[Rollout]  # rollouts that stay together


def first_fit_decreasing(lengths: Sequence[int], budget: int) -> list[list[int]]:
    """Indices of ``lengths`` in as few bins of at most ``budget`` tokens as first-fit-decreasing finds.

    A length above the budget gets a bin of its own. Ties keep their order, so the result is deterministic.
    """
    bins: list[list[int]] = []
    room: list[int] = []
    for index in sorted(range(len(lengths)), key=lambda i: -lengths[i]):
        k = next((k for k, free in enumerate(room) if lengths[index] <= free), len(bins))
        if k == len(bins):
            bins.append([])
            room.append(budget)
        bins[k].append(index)
        room[k] -= lengths[index]
    return bins


def _inputs(completion: Completion) -> int:
    return max(0, len(completion.token_ids) - 1)


def _by_prompt(sequences: Sequence[Rollout]) -> list[tuple[Sequence[int], list[Rollout]]]:
    """Neighbours with the same prompt."""
    return [(prompt, list(members)) for prompt, members in groupby(sequences, key=lambda s: s[1])]


def pack(sequences: Sequence[Rollout], share_prompts: bool = False) -> PackedBatch:
    """Lay ``(row, prompt ids, completion)`` end to end; no sequences at all give one dummy token and no target.

    The last token of a completion is a target and never an input. With ``share_prompts`` neighbours with the same prompt have it
    once, and then only attention that takes a layout computes them right.
    """
    ids: list[int] = []
    positions: list[int] = []
    predict: list[int] = []
    segments: list[Segment] = []
    for prompt, members in _by_prompt(sequences) if share_prompts else ((s[1], [s]) for s in sequences):
        n, start, shared = len(prompt), len(ids), len(members) > 1
        if shared:
            ids += prompt
            positions += range(n)
            segments.append(Segment(start, n))
        for _, _, completion in members:
            at, inputs = len(ids), _inputs(completion)
            if shared:
                if inputs:
                    segments.append(Segment(at, inputs, start, n))
            else:
                ids += prompt
                positions += range(n)
                segments.append(Segment(at, n + inputs))
                at += n
            ids += completion.token_ids[:-1]
            positions += range(n, n + inputs)
            if completion.token_ids:
                predict.append(start + n - 1 if shared else at - 1)
                predict += range(at, at + inputs)
    if not ids:
        ids, positions, segments = [0], [0], [Segment(0, 1)]
    lengths = torch.tensor([len(c.token_ids) for _, _, c in sequences], dtype=torch.long)
    rows = torch.tensor([row for row, _, _ in sequences], dtype=torch.long)
    return PackedBatch(
        input_ids=torch.tensor(ids),
        position_ids=torch.tensor(positions),
        predict_at=torch.tensor(predict, dtype=torch.long),
        targets=torch.tensor(list(chain.from_iterable(c.token_ids for _, _, c in sequences)), dtype=torch.long),
        rows=rows.repeat_interleave(lengths),
        engine_logp=torch.tensor(list(chain.from_iterable(c.logprobs for _, _, c in sequences)), dtype=torch.float32),
        layout=Layout(segments),
    )


def units(
    groups: Sequence[RolloutGroup], budget: int, learned: Sequence[bool], share_prompts: bool = False, only: Sequence[int] | None = None
) -> list[Unit]:
    """The rollouts of ``groups`` that are ``learned`` from, in parts that are not cut further; row = group * G + member.

    Args:
        share_prompts: the rollouts of a group stay together, as many as fit ``budget`` with their prompt once.
        only: numbers of the groups to take; None takes all.
    """
    made: list[Unit] = []
    for g in range(len(groups)) if only is None else only:
        prompt, completions = groups[g].prompt.token_ids, groups[g].completions
        members: Unit = [(g * len(completions) + i, prompt, c) for i, c in enumerate(completions) if learned[g * len(completions) + i]]
        if share_prompts:
            bins = first_fit_decreasing([_inputs(c) for _, _, c in members], budget - len(prompt))
            made += [[members[i] for i in sorted(chosen)] for chosen in bins]
        else:
            made += [[member] for member in members]
    return made


def bins_of(parts: Sequence[Unit], budget: int, at_least: int = 0) -> list[list[int]]:
    """Indices of ``parts`` in as few bins under ``budget`` tokens as first-fit-decreasing needs, or in up to ``at_least``, of sizes as
    equal as it makes them: the smallest capacity, in steps of a 64th of the budget, that needs no more bins."""
    sizes = [len(unit[0][1]) + sum(_inputs(c) for _, _, c in unit) for unit in parts]
    best = first_fit_decreasing(sizes, budget)
    most = max(at_least, len(best))
    low, high = max([1, *sizes]), budget
    while high - low > budget // 64:
        middle = (low + high) // 2
        found = first_fit_decreasing(sizes, middle)
        if len(found) <= most:
            best, high = found, middle
        else:
            low = middle + 1
    return best


def pack_units(parts: Sequence[Unit], budget: int, share_prompts: bool = False, count: int = 0) -> list[PackedBatch]:
    """A micro-batch for each bin, and empty ones up to ``count``."""
    made = [pack([member for i in sorted(chosen) for member in parts[i]], share_prompts) for chosen in bins_of(parts, budget, count)]
    return made + [pack([]) for _ in range(count - len(made))]


def standing(rows: Int[Tensor, "n"], acting: Bool[Tensor, "groups G"], every: int) -> Float[Tensor, "rollouts"]:
    """For how many rollouts each one stands: in groups of which none is ``acting``, every ``every``-th of those present among ``rows``
    for all of them and the others for none; elsewhere each for itself. It does not depend on how they are packed."""
    present = torch.zeros_like(acting).flatten().index_fill(0, rows, True).view_as(acting)
    chosen = present & ((present.cumsum(1) - 1) % every == 0)
    part = chosen * present.sum(1, keepdim=True) / chosen.sum(1, keepdim=True).clamp(min=1)
    return torch.where(acting.any(1, keepdim=True), torch.ones_like(part), part).flatten()


def thinned(micro: PackedBatch, groups: Sequence[RolloutGroup], stand: Float[Tensor, "rollouts"], share_prompts: bool) -> PackedBatch:
    """The rollouts of a micro-batch of ``groups`` that stand for any; what is known of their tokens is kept."""
    size, counts = len(groups[0].completions), stand.tolist()
    chosen = [(row, groups[row // size]) for row in dict.fromkeys(micro.rows.tolist()) if counts[row]]
    made = pack([(row, group.prompt.token_ids, group.completions[row % size]) for row, group in chosen], share_prompts)
    kept = stand[micro.rows] > 0
    made.old_logp, made.reference_logp = (None if x is None else x[kept.to(x.device)] for x in (micro.old_logp, micro.reference_logp))
    return made.to(micro.input_ids.device)


def micro_batches(groups: Sequence[RolloutGroup], budget: int, learned: Sequence[bool], share_prompts: bool = False) -> list[PackedBatch]:
    """Pack rollouts under ``budget`` tokens a micro-batch."""
    return pack_units(units(groups, budget, learned, share_prompts), budget, share_prompts)
