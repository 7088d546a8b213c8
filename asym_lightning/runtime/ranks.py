"""Small collective operations between the ranks of a run; with one rank they do nothing."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from typing import Any, TypeVar

import torch
from jaxtyping import Float
from torch import Tensor

T = TypeVar("T")
_PADDING = object()


def distributed() -> bool:
    return torch.distributed.is_available() and torch.distributed.is_initialized()


def place_among_ranks() -> tuple[int, int]:
    """Return this process's rank and the number of ranks."""
    if not distributed():
        return 0, 1
    return torch.distributed.get_rank(), torch.distributed.get_world_size()


def _device() -> torch.device:
    """The device of tensors that the backend can exchange."""
    if torch.distributed.get_backend() == "nccl":
        return torch.device("cuda", torch.cuda.current_device())
    return torch.device("cpu")


@dataclass(frozen=True)
class RolloutShard:
    """The shard of an iteration's rollouts that a rank learns from.

    It is shard ``index`` of ``count``. With tensor parallelism ``tp_size`` neighbouring ranks each
    hold a part of every layer and learn from the same shard.

    ``tp_group`` is the process group of these ranks (None: this rank alone). ``dp_group`` is a
    process group with one rank for each shard (None: all ranks).
    """

    index: int = 0
    count: int = 1
    tp_size: int = 1
    tp_group: Any = None
    dp_group: Any = None


def own_shard() -> RolloutShard:
    """Return the shard of a rank that learns from the rollouts it generated."""
    return RolloutShard(*place_among_ranks())


def interleave_over_ranks(parts: Sequence[Sequence[T]], group: Any) -> list[list[T]]:
    """Merge each of ``parts`` over the ranks of ``group``.

    The order is the first element of every rank, then the second element of every rank, and so on.
    """
    if group is None:
        return [list(part) for part in parts]
    gathered: list[Any] = [None] * torch.distributed.get_world_size(group)
    torch.distributed.all_gather_object(gathered, parts, group=group)
    merged: list[list[T]] = []
    for of_ranks in zip(*gathered, strict=True):
        turns = zip_longest(*of_ranks, fillvalue=_PADDING)
        merged.append([item for turn in turns for item in turn if item is not _PADDING])
    return merged


def reduce_over_ranks(values: Tensor, how: str, group: Any = None) -> Tensor:
    """Return the sum or maximum of ``values`` over the ranks of ``group`` (None: all), on the host.

    Args:
        how: ``sum`` or ``max``.
    """
    if not distributed():
        return values.cpu()
    values = values.to(_device(), copy=True)
    operation = torch.distributed.ReduceOp.SUM if how == "sum" else torch.distributed.ReduceOp.MAX
    torch.distributed.all_reduce(values, operation, group=group)
    return values.cpu()


def broadcast_text(value: str) -> str:
    """Return the text of rank 0."""
    values = [value]
    if distributed():
        torch.distributed.broadcast_object_list(values, device=_device())
    return values[0]


def all_names(names: Iterable[str]) -> list[str]:
    """Return the names of all ranks, sorted."""
    gathered = [sorted(set(names))]
    if distributed():
        gathered = gathered * torch.distributed.get_world_size()
        torch.distributed.all_gather_object(gathered, gathered[0])
    return sorted({name for part in gathered for name in part})


def gather_rows(
    table: Float[Tensor, "n k"], group: Any = None
) -> tuple[Float[Tensor, "all k"], int]:
    """Gather the rows of all ranks of ``group`` (None: all); each rank may have any number of rows.

    Returns:
        The rows in order of ranks, and the position of this rank's first row.
    """
    if not distributed():
        return table, 0
    world, rank = torch.distributed.get_world_size(group), torch.distributed.get_rank(group)
    sizes = torch.zeros(world, dtype=torch.long)
    sizes[rank] = len(table)
    counts = reduce_over_ranks(sizes, "sum", group).tolist()
    padded = torch.zeros(max(counts), table.shape[1], dtype=table.dtype, device=_device())
    padded[: len(table)] = table
    parts = [torch.empty_like(padded) for _ in counts]
    torch.distributed.all_gather(parts, padded, group=group)
    rows = torch.cat([part[:n] for part, n in zip(parts, counts, strict=True)])
    return rows.to(table.device), sum(counts[:rank])
