"""Two ranks of a run, as torchrun starts them, within a test."""

import logging
import os
import pickle
import queue
import socket
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import torch

from tests.support import preloaded


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


def rank_environment(rank: int, world: int, port: int) -> dict[str, str]:
    """The variables that torchrun sets for a rank of one node."""
    return {
        "RANK": str(rank),
        "LOCAL_RANK": str(rank),
        "GROUP_RANK": "0",
        "WORLD_SIZE": str(world),
        "LOCAL_WORLD_SIZE": str(world),
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
        "TORCHELASTIC_RUN_ID": "test",
    }


def on_two_ranks(work: Callable[[Path], None], folder: Path, timeout: float = 280.0) -> None:
    """Call ``work(folder)``, a function of a module, in two new processes that find each other.

    An error in either fails the test.
    """
    port = free_port()
    ranks = [preloaded.Process(_rank, rank, port, work, folder) for rank in range(2)]
    preloaded.finished(ranks, timeout, [0, 0])


def _join(rank: int, port: int) -> None:
    os.environ.update(rank_environment(rank, 2, port))
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
    torch.set_num_threads(1)


def _rank(rank: int, port: int, work: Callable[[Path], None], folder: Path) -> None:
    _join(rank, port)
    work(folder)
    # Without this, gloo's threads now and then abort the exit of a process.
    torch.distributed.barrier()
    torch.distributed.destroy_process_group()


class Pair:
    """Two ranks that start once and do several pieces of work in turn; a failure ends them."""

    def __init__(self) -> None:
        context = preloaded.context()
        self._inboxes: list[Any] = [context.Queue() for _ in range(2)]
        self._outbox: Any = context.Queue()
        port = free_port()
        self._processes: list[Any] = []
        for rank, inbox in enumerate(self._inboxes):
            arguments = (rank, port, inbox, self._outbox)
            self._processes.append(context.Process(target=_serve, args=arguments, daemon=True))
        for process in self._processes:
            process.start()

    def __call__(self, work: Callable[..., Any], *arguments: Any, **named: Any) -> list[Any]:
        """Return the results of ``work(*arguments, **named)`` on each rank.

        ``work`` is a function of a module.
        """
        for inbox in self._inboxes:
            inbox.put(pickle.dumps((work, arguments, named)))
        results: dict[int, Any] = {}
        while len(results) < 2:
            try:
                rank, error, result = pickle.loads(self._outbox.get(timeout=200))
            except queue.Empty:
                statuses = [process.exitcode for process in self._processes]
                rank, error, result = -1, f"no answer; exit statuses {statuses}", None
            if error:
                pair.cache_clear()
                for process in self._processes:
                    process.terminate()
                raise RuntimeError(f"rank {rank}: {error}")
            results[rank] = result
        return [results[rank] for rank in range(2)]


def within_pair() -> bool:
    """Whether this process is one of the two ranks.

    Other processes may have a process group too: vLLM makes one.
    """
    return os.environ.get("TORCHELASTIC_RUN_ID") == "test"


@contextmanager
def one_rank() -> Iterator[None]:
    """The process group of a run with one rank, unless an engine has left one in this process."""
    if torch.distributed.is_initialized():
        yield
        return
    store = torch.distributed.HashStore()
    torch.distributed.init_process_group("gloo", store=store, rank=0, world_size=1)
    try:
        yield
    finally:
        torch.distributed.destroy_process_group()


def as_rank(work: Callable[..., Any], *arguments: Any) -> Any:
    """Return ``work(rank, world, *arguments)`` for the rank of this process."""
    return work(torch.distributed.get_rank(), torch.distributed.get_world_size(), *arguments)


@cache
def pair() -> Pair:
    """The two ranks of this test process."""
    return Pair()


def _serve(rank: int, port: int, inbox: Any, outbox: Any) -> None:
    _join(rank, port)
    torch.distributed.init_process_group("gloo")
    while True:
        work, arguments, named = pickle.loads(inbox.get())
        try:
            outbox.put(pickle.dumps((rank, "", work(*arguments, **named))))
        except Exception:
            outbox.put(pickle.dumps((rank, traceback.format_exc(), None)))
