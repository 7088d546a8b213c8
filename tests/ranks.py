"""Two ranks of a run, as torchrun starts them, within a test."""

import logging
import os
import socket
from collections.abc import Callable
from pathlib import Path

import torch


def on_two_ranks(work: Callable[[Path], None], folder: Path) -> None:
    """Call ``work(folder)`` in two new processes that find each other; an error in either is raised here."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    torch.multiprocessing.spawn(_rank, args=(port, work, folder), nprocs=2)


def _rank(rank: int, port: int, work: Callable[[Path], None], folder: Path) -> None:
    given = {"RANK": rank, "LOCAL_RANK": rank, "GROUP_RANK": 0, "WORLD_SIZE": 2, "LOCAL_WORLD_SIZE": 2, "MASTER_PORT": port}
    os.environ.update({key: str(value) for key, value in given.items()} | {"MASTER_ADDR": "127.0.0.1", "TORCHELASTIC_RUN_ID": "test"})
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
    torch.set_num_threads(1)
    work(folder)
    torch.distributed.barrier()  # left alone, gloo's threads now and then abort the exit of a spawned process
    torch.distributed.destroy_process_group()
