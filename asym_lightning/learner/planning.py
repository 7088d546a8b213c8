"""What modulations see before the first backward pass: the whole mini-batch, over all micro-batches and ranks."""

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from asym_lightning.algorithms import Modulation, Tokens
from asym_lightning.runtime.ranks import Share, gather_rows, own_share

COLUMNS = ("logp", "old_logp", "entropy", "advantages", "weights", "nucleus_entropy", "reference_logp")


def plans(
    modulations: Sequence[Modulation], parts: Sequence[Tokens], group_size: int, seed: int, share: Share | None = None
) -> list[list[Tensor | None]]:
    """For each micro-batch of this rank, what each modulation's ``prepare`` says of its tokens (None for one that has no ``prepare``).

    Args:
        parts: this rank's micro-batches, without gradient; rows count the rollouts of this rank.
        group_size: G, with which a rollout's place among those of all ranks is found (prompt i of a mini-batch is on rank i mod ranks).
        seed: of the random choices; the same on every rank.
        share: what this rank learns from; its own rollouts unless given.
    """
    given = [name for name in COLUMNS if all(getattr(part, name) is not None for part in parts)]
    table = torch.cat([torch.stack([getattr(part, name).double() for name in given], 1) for part in parts])
    share = share or own_share()
    rows = torch.cat([part.rows for part in parts])
    groups = rows // group_size
    groups = (groups // share.copies * share.count + share.number) * share.copies + groups % share.copies
    rows = groups * group_size + rows % group_size
    whole, start = gather_rows(torch.cat([table, rows[:, None].double()], 1), share.peers)
    order = whole[:, -1].argsort(stable=True)  # by rollout; within one, tokens are in order already
    back = torch.empty_like(order)
    back[order] = torch.arange(len(order), device=order.device)
    mine = back[start : start + len(rows)]
    tokens = Tokens(**{name: whole[order, i] for i, name in enumerate(given)}, rows=whole[order, -1].long())
    generator = torch.Generator().manual_seed(seed)
    sizes = [len(part.rows) for part in parts]
    result: list[list[Tensor | None]] = [[] for _ in parts]
    for modulation in modulations:
        plan = modulation.prepare(tokens, generator) if modulation.needs_batch else None
        tokens.advantages = modulation.shape_advantages(replace(tokens, plan=plan))
        pieces = [None] * len(parts) if plan is None else plan[mine].to(parts[0].logp.dtype).split(sizes)
        for planned, piece in zip(result, pieces, strict=True):
            planned.append(piece)
    return result
