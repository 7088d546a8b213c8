"""Packing of rollouts into micro-batches without padding."""

from collections.abc import Sequence
from itertools import chain

import torch

from asym_lightning.types import Completion, PackedBatch, RolloutGroup


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


def pack(sequences: Sequence[tuple[int, Sequence[int], Completion]]) -> PackedBatch:
    """Lay ``(row, prompt ids, completion)`` end to end; no sequences at all give one dummy token and no target."""
    ids: list[list[int]] = []
    positions: list[torch.Tensor] = []
    predict: list[torch.Tensor] = []
    offset = 0
    for _, prompt, completion in sequences:
        n, m = len(prompt), len(completion.token_ids)
        ids.append([*prompt, *completion.token_ids])
        positions.append(torch.arange(n + m))
        predict.append(torch.arange(offset + n - 1, offset + n + m - 1))
        offset += n + m
    if not ids:
        ids, positions, predict = [[0]], [torch.zeros(1, dtype=torch.long)], [torch.zeros(0, dtype=torch.long)]
    lengths = torch.tensor([len(c.token_ids) for _, _, c in sequences], dtype=torch.long)
    rows = torch.tensor([row for row, _, _ in sequences], dtype=torch.long)
    return PackedBatch(
        input_ids=torch.tensor(list(chain.from_iterable(ids))),
        position_ids=torch.cat(positions),
        predict_at=torch.cat(predict),
        targets=torch.tensor(list(chain.from_iterable(c.token_ids for _, _, c in sequences)), dtype=torch.long),
        rows=rows.repeat_interleave(lengths),
        engine_logp=torch.tensor(list(chain.from_iterable(c.logprobs for _, _, c in sequences)), dtype=torch.float32),
    )


def micro_batches(groups: Sequence[RolloutGroup], budget: int, learned: Sequence[bool]) -> list[PackedBatch]:
    """Pack the rollouts of ``groups`` that are ``learned`` from under ``budget`` tokens a micro-batch; row = group * G + member."""
    sequences = [
        (g * len(group.completions) + i, group.prompt.token_ids, completion)
        for g, group in enumerate(groups)
        for i, completion in enumerate(group.completions)
        if learned[g * len(group.completions) + i]
    ]
    bins = first_fit_decreasing([len(p) + len(c.token_ids) for _, p, c in sequences], budget)
    return [pack([sequences[i] for i in sorted(chosen)]) for chosen in bins]
