"""Small exchanges between the processes of a run; with one process they do nothing."""

from collections.abc import Iterable

import torch
from jaxtyping import Float
from torch import Tensor


def distributed() -> bool:
    return torch.distributed.is_available() and torch.distributed.is_initialized()


def place_among_ranks() -> tuple[int, int]:
    """This process's rank, and how many there are."""
    return (torch.distributed.get_rank(), torch.distributed.get_world_size()) if distributed() else (0, 1)


def _device() -> torch.device:
    """Where the backend wants its tensors."""
    return torch.device("cuda", torch.cuda.current_device()) if torch.distributed.get_backend() == "nccl" else torch.device("cpu")


def over_ranks(values: Tensor, how: str) -> Tensor:
    """The sum or maximum of ``values`` over ranks, on the host."""
    if not distributed():
        return values.cpu()
    values = values.to(_device(), copy=True)
    torch.distributed.all_reduce(values, torch.distributed.ReduceOp.SUM if how == "sum" else torch.distributed.ReduceOp.MAX)
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


def gather_rows(table: Float[Tensor, "n k"]) -> tuple[Float[Tensor, "all k"], int]:
    """The rows of all ranks, by rank, and the position of this rank's first; ranks may have different numbers of rows."""
    if not distributed():
        return table, 0
    world, rank = torch.distributed.get_world_size(), torch.distributed.get_rank()
    sizes = torch.zeros(world, dtype=torch.long)
    sizes[rank] = len(table)
    counts = over_ranks(sizes, "sum").tolist()
    mine = torch.zeros(max(counts), table.shape[1], dtype=table.dtype, device=_device())
    mine[: len(table)] = table
    parts = [torch.empty_like(mine) for _ in counts]
    torch.distributed.all_gather(parts, mine)
    whole = torch.cat([part[:n] for part, n in zip(parts, counts, strict=True)])
    return whole.to(table.device), sum(counts[:rank])
