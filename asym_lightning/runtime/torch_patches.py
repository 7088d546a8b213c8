"""The private names of torch that this package uses."""

import logging
from abc import ABC, abstractmethod
from datetime import timedelta
from typing import Any

from torch import Tensor
from torch.distributed import distributed_c10d
from torch.utils._python_dispatch import TorchDispatchMode


class WriteObserver(TorchDispatchMode, ABC):
    """A context that calls :meth:`wrote` after each write into a tensor.

    Needed since only the dispatcher sees every write, and only an operation's schema says which of
    its arguments it writes into. torch's notes on extending torch show the class by this path.

    Upstream: https://github.com/pytorch/pytorch/pull/110073
    Versions: torch>=2.11,<2.14 (tried with 2.13.0)
    """

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        for value, argument in zip(args, func._schema.arguments, strict=False):
            writes = argument.alias_info is not None and argument.alias_info.is_write
            if writes and isinstance(value, Tensor):
                self.wrote(func, value, args)
        return result

    @abstractmethod
    def wrote(self, func: Any, target: Tensor, args: Any) -> None:
        """See a write.

        Args:
            func: the operation.
            target: the tensor that it wrote into, one of ``args``.
            args: the operation's arguments.
        """


def wait_at_least(timeout: timedelta) -> None:
    """Raise the time-outs of all process groups to at least ``timeout``.

    Needed since torch sets them only when a group is made, and nothing lists the groups. A rank may
    wait for other ranks as long as these make progress.

    Upstream: https://github.com/pytorch/pytorch/pull/187387
    Versions: torch>=2.11,<2.14 (tried with 2.13.0)
    """
    for group in list(distributed_c10d._world.pg_map):
        for device in group._device_types:
            options = getattr(group._get_backend(device), "options", None)
            if options is not None and options._timeout < timeout:
                distributed_c10d._set_pg_timeout(timeout, group)


def expect_sequential_collectives() -> None:
    """Silence torch's warning about two gathers or reductions in a row.

    Needed with two dimensions of ranks, where they are intended: the dimensions are not flattened
    into one. The warning goes to a logger that has the name of a private module.

    Upstream: https://github.com/pytorch/pytorch/pull/174630
    Versions: torch>=2.11,<2.14 (tried with 2.13.0)
    """
    logging.getLogger("torch.distributed.tensor._redistribute").setLevel(logging.ERROR)
