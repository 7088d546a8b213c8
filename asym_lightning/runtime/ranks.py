"""Small exchanges between the processes of a run; with one process they do nothing."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from typing import Any, TypeVar

import torch
from jaxtyping import Float
from torch import Tensor

T = TypeVar("T")
_NOTHING = object()


def distributed() -> bool:
    return torch.distributed.is_available() and torch.distributed.is_initialized()


def place_among_ranks() -> tuple[int, int]:
    """This process's rank, and how many there are."""
    return (torch.distributed.get_rank(), torch.distributed.get_world_size()) if distributed() else (0, 1)


def _device() -> torch.device:
    """Where the backend wants its tensors."""
    return torch.device("cuda", torch.cuda.current_device()) if torch.distributed.get_backend() == "nccl" else torch.device("cpu")


@dataclass(frozen=True)
class Share:
    """Which part of an iteration's rollouts a rank learns from: part ``number`` of ``count``, which ``copies`` neighbouring ranks do alike
    because each of them has a part of every layer (tensor parallelism).

    ``sharers`` are the process group of these (none: this rank alone), ``peers`` that of one rank for each part (none: all ranks).
    """

    number: int = 0
    count: int = 1
    copies: int = 1
    sharers: Any = None
    peers: Any = None


def own_share() -> Share:
    """Each rank learns from the rollouts it made."""
    return Share(torch.distributed.get_rank(), torch.distributed.get_world_size()) if distributed() else Share()


def merged_in_turn(parts: Sequence[Sequence[T]], group: Any) -> list[list[T]]:
    """For each of ``parts``, the elements that all ranks of ``group`` have in it: the first of every rank, the second of every rank ..."""
    if group is None:
        return [list(part) for part in parts]
    found: list[Any] = [None] * torch.distributed.get_world_size(group)
    torch.distributed.all_gather_object(found, parts, group=group)
    turns = (zip_longest(*same, fillvalue=_NOTHING) for same in zip(*found, strict=True))
    return [[one for turn in part for one in turn if one is not _NOTHING] for part in turns]


def over_ranks(values: Tensor, how: str, group: Any = None) -> Tensor:
    """The sum or maximum of ``values`` over the ranks of ``group`` (none: all), on the host."""
    if not distributed():
        return values.cpu()
    values = values.to(_device(), copy=True)
    operation = torch.distributed.ReduceOp.SUM if how == "sum" else torch.distributed.ReduceOp.MAX
    torch.distributed.all_reduce(values, operation, group=group)
    return values.cpu()


def from_first(value: str) -> str:
    """The text that rank 0 has."""
    given = [value]
    if distributed():
        torch.distributed.broadcast_object_list(given, device=_device())
    return given[0]


def all_names(names: Iterable[str]) -> list[str]:
    """The names that any rank has, sorted."""
    found = [sorted(set(names))]
    if distributed():
        found = found * torch.distributed.get_world_size()
        torch.distributed.all_gather_object(found, found[0])
    return sorted({name for part in found for name in part})


def gather_rows(table: Float[Tensor, "n k"], group: Any = None) -> tuple[Float[Tensor, "all k"], int]:
    """The rows of all ranks of ``group`` (none: all), by rank, and the position of this rank's first; ranks may have different numbers
    of rows."""
    if not distributed():
        return table, 0
    world, rank = torch.distributed.get_world_size(group), torch.distributed.get_rank(group)
    sizes = torch.zeros(world, dtype=torch.long)
    sizes[rank] = len(table)
    counts = over_ranks(sizes, "sum", group).tolist()
    mine = torch.zeros(max(counts), table.shape[1], dtype=table.dtype, device=_device())
    mine[: len(table)] = table
    parts = [torch.empty_like(mine) for _ in counts]
    torch.distributed.all_gather(parts, mine, group=group)
    whole = torch.cat([part[:n] for part, n in zip(parts, counts, strict=True)])
    return whole.to(table.device), sum(counts[:rank])
