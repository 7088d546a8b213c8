"""Plans of modulations: made before the first backward pass, from the complete mini-batch."""

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from asym_lightning.algorithms import Modulation, Tokens
from asym_lightning.runtime.ranks import RolloutShard, gather_rows, own_shard

# The fields of Tokens that are gathered.
COLUMNS = (
    "logp",
    "old_logp",
    "entropy",
    "advantages",
    "weights",
    "nucleus_entropy",
    "reference_logp",
)


def plan_modulations(
    modulations: Sequence[Modulation],
    parts: Sequence[Tokens],
    group_size: int,
    *,
    seed: int,
    shard: RolloutShard | None = None,
) -> list[list[Tensor | None]]:
    """Return, for each micro-batch of this rank, the plan of every modulation for its tokens.

    Every ``prepare`` sees the tokens of all micro-batches and ranks, ordered by rollout. The plan
    of a modulation without ``prepare`` is None.

    Args:
        parts: this rank's micro-batches, without gradient; rows count the rollouts of this rank.
        group_size: G. It gives a rollout's position among those of all ranks, since prompt i of a
            mini-batch is on rank i mod ranks.
        seed: seed of the random choices; the same on every rank.
        shard: the part of the rollouts that this rank learns from; None: the rollouts that it made.
    """
    shard = shard or own_shard()
    names = [name for name in COLUMNS if all(getattr(part, name) is not None for part in parts)]
    columns = [torch.stack([getattr(part, name).double() for name in names], 1) for part in parts]
    local_rows = torch.cat([part.rows for part in parts])
    rows = _global_rows(local_rows, group_size, shard)
    table = torch.cat([torch.cat(columns), rows[:, None].double()], 1)
    everywhere, start = gather_rows(table, shard.dp_group)
    # By rollout; the tokens of a rollout are in order already.
    order = everywhere[:, -1].argsort(stable=True)
    position = torch.empty_like(order)
    position[order] = torch.arange(len(order), device=order.device)
    own_positions = position[start : start + len(rows)]
    tokens = Tokens(
        **{name: everywhere[order, i] for i, name in enumerate(names)},
        rows=everywhere[order, -1].long(),
    )
    generator = torch.Generator().manual_seed(seed)
    sizes = [len(part.rows) for part in parts]
    result: list[list[Tensor | None]] = [[] for _ in parts]
    for modulation in modulations:
        plan = modulation.prepare(tokens, generator) if modulation.needs_batch else None
        tokens.advantages = modulation.shape_advantages(replace(tokens, plan=plan))
        pieces: Sequence[Tensor | None] = [None] * len(parts)
        if plan is not None:
            pieces = plan[own_positions].to(parts[0].logp.dtype).split(sizes)
        for plans, piece in zip(result, pieces, strict=True):
            plans.append(piece)
    return result


def _global_rows(rows: Tensor, group_size: int, shard: RolloutShard) -> Tensor:
    """Return the numbers of this rank's rollouts among the rollouts of all ranks.

    The groups of a shard are those of its ``tp_size`` ranks in turn.
    """
    groups = rows // group_size
    turns = groups // shard.tp_size * shard.count + shard.index
    groups = turns * shard.tp_size + groups % shard.tp_size
    return groups * group_size + rows % group_size
