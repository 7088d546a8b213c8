"""Packing of rollouts into micro-batches without padding."""

from collections.abc import Sequence
from itertools import chain, groupby

import torch

from asym_lightning.learner.attention import Layout, Segment
from asym_lightning.learner.batch import PackedBatch
from asym_lightning.types import Completion, RolloutGroup

Rollout = tuple[int, Sequence[int], Completion]  # row, prompt ids, completion
Unit = list[Rollout]  # rollouts that stay together


def first_fit_decreasing(lengths: Sequence[int], budget: int) -> list[list[int]]:
    """Distribute ``lengths`` over bins of at most ``budget`` tokens; return the indices in each.

    A length above the budget gets a bin of its own. Ties keep their order, so the result is
    deterministic.
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
    """Return how many tokens of a completion are inputs: all but the last one."""
    return max(0, len(completion.token_ids) - 1)


def _by_prompt(sequences: Sequence[Rollout]) -> list[tuple[Sequence[int], list[Rollout]]]:
    """Group neighbouring rollouts with the same prompt."""
    return [(prompt, list(members)) for prompt, members in groupby(sequences, key=lambda s: s[1])]


def pack(sequences: Sequence[Rollout], share_prompts: bool = False) -> PackedBatch:
    """Lay ``(row, prompt ids, completion)`` end to end as one micro-batch.

    The last token of a completion is a target and never an input. Without any sequence the batch is
    one dummy token and has no target.

    Args:
        share_prompts: neighbours with the same prompt have it once. Only attention that takes a
            layout computes them correctly then.
    """
    ids: list[int] = []
    positions: list[int] = []
    predict: list[int] = []
    segments: list[Segment] = []
    prompts = _by_prompt(sequences) if share_prompts else [(s[1], [s]) for s in sequences]
    for prompt, members in prompts:
        n, start, shared = len(prompt), len(ids), len(members) > 1
        if shared:
            ids += prompt
            positions += range(n)
            segments.append(Segment(start, n))
        for _, _, completion in members:
            # ``at`` is the index of the completion's first input.
            at, inputs = len(ids), _inputs(completion)
            if shared:
                if inputs:
                    segments.append(Segment(at, inputs, prefix_start=start, prefix=n))
            else:
                ids += prompt
                positions += range(n)
                segments.append(Segment(at, n + inputs))
                at += n
            ids += completion.token_ids[:-1]
            positions += range(n, n + inputs)
            if completion.token_ids:
                # The first token is predicted by the end of the prompt, the others by the inputs.
                predict.append(start + n - 1 if shared else at - 1)
                predict += range(at, at + inputs)
    if not ids:
        ids, positions, segments = [0], [0], [Segment(0, 1)]
    lengths = torch.tensor([len(c.token_ids) for _, _, c in sequences], dtype=torch.long)
    rows = torch.tensor([row for row, _, _ in sequences], dtype=torch.long)
    targets = list(chain.from_iterable(c.token_ids for _, _, c in sequences))
    engine_logp = list(chain.from_iterable(c.logprobs for _, _, c in sequences))
    return PackedBatch(
        input_ids=torch.tensor(ids),
        position_ids=torch.tensor(positions),
        predict_at=torch.tensor(predict, dtype=torch.long),
        targets=torch.tensor(targets, dtype=torch.long),
        rows=rows.repeat_interleave(lengths),
        engine_logp=torch.tensor(engine_logp, dtype=torch.float32),
        layout=Layout(segments),
    )


def packing_units(
    groups: Sequence[RolloutGroup],
    budget: int,
    learned: Sequence[bool],
    share_prompts: bool = False,
    only: Sequence[int] | None = None,
) -> list[Unit]:
    """Return the rollouts of ``groups`` in units that packing does not split.

    The row of a rollout is group * G + member.

    Args:
        learned: for each row whether it is learned from; the other rollouts are left out.
        share_prompts: a unit is as many rollouts of a group as fit ``budget`` with their prompt
            once; otherwise it is a single rollout.
        only: numbers of the groups to take; None takes all.
    """
    units: list[Unit] = []
    for g in range(len(groups)) if only is None else only:
        prompt, completions = groups[g].prompt.token_ids, groups[g].completions
        members: Unit = []
        for i, completion in enumerate(completions):
            row = g * len(completions) + i
            if learned[row]:
                members.append((row, prompt, completion))
        if share_prompts:
            bins = first_fit_decreasing([_inputs(c) for _, _, c in members], budget - len(prompt))
            units += [[members[i] for i in sorted(chosen)] for chosen in bins]
        else:
            units += [[member] for member in members]
    return units


def pack_bins(
    units: Sequence[Unit], budget: int, at_least: int = 0, padded: bool = False
) -> list[list[int]]:
    """Distribute ``units`` over bins of at most ``budget`` tokens; return the indices in each.

    The number of bins is at most the one that first-fit-decreasing needs, or ``at_least`` if that
    is more. Their sizes are as equal as first-fit-decreasing makes them: it gets the smallest
    capacity, to within a 64th of the budget, that needs no more bins.

    Args:
        padded: the model pads the sequences of a bin to one length, which the budget must hold.
    """
    sizes = [len(unit[0][1]) + sum(_inputs(c) for _, _, c in unit) for unit in units]
    if padded:
        sizes = [max(sizes)] * len(sizes) if sizes else []
    best = first_fit_decreasing(sizes, budget)
    limit = max(at_least, len(best))
    low, high = max([1, *sizes]), budget
    while high - low > budget // 64:
        middle = (low + high) // 2
        bins = first_fit_decreasing(sizes, middle)
        if len(bins) <= limit:
            best, high = bins, middle
        else:
            low = middle + 1
    return best


def pack_units(
    units: Sequence[Unit],
    budget: int,
    share_prompts: bool = False,
    count: int = 0,
    padded: bool = False,
) -> list[PackedBatch]:
    """Return a micro-batch for each bin of ``units``, and empty ones up to ``count``."""
    batches = []
    for bin_units in pack_bins(units, budget, count, padded=padded):
        rollouts = [rollout for i in sorted(bin_units) for rollout in units[i]]
        batches.append(pack(rollouts, share_prompts))
    return batches + [pack([]) for _ in range(count - len(batches))]


def micro_batches(
    groups: Sequence[RolloutGroup],
    budget: int,
    learned: Sequence[bool],
    share_prompts: bool = False,
) -> list[PackedBatch]:
    """Pack the rollouts that are learned from into micro-batches of at most ``budget`` tokens."""
    units = packing_units(groups, budget, learned, share_prompts=share_prompts)
    return pack_units(units, budget, share_prompts)
