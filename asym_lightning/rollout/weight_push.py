"""New weights from the policy's GPU straight into servers, by vLLM's own transfer.

That is NCCL, or CUDA IPC if both share a GPU.
"""

import asyncio
import base64
import pickle
import socket
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from typing import Any, Protocol
from urllib.parse import urlsplit

import torch
from torch import Tensor

from asym_lightning.rollout.server_client import Client, EngineServerError, Server, together
from asym_lightning.rollout.server_control import relabel, unless_dead, worker_of
from asym_lightning.rollout.weight_folder import buckets

Bucket = Mapping[str, Tensor]


class Transport(Protocol):
    """A way for the tensors of a bucket to reach a server.

    ``open`` is called once per server, before the first ``send``.
    """

    async def open(self, client: Client) -> None: ...

    async def send(self, client: Client, bucket: Bucket) -> None: ...

    def close(self) -> None: ...


def bucket_info(bucket: Bucket) -> dict[str, Any]:
    """The names, types and shapes of a bucket, which a server must know before it comes."""
    return {
        "names": list(bucket),
        "dtype_names": [str(tensor.dtype).removeprefix("torch.") for tensor in bucket.values()],
        "shapes": [list(tensor.shape) for tensor in bucket.values()],
    }


class IPC:
    """Lets the server, a process of this user, read the tensors where they are.

    torch counts the readers of the tensors that it shared, and does not reuse memory that the
    server still reads.
    """

    def __init__(self) -> None:
        self._gpu = str(torch.cuda.get_device_properties(torch.cuda.current_device()).uuid)

    async def open(self, client: Client) -> None:
        await client.post("/init_weight_transfer_engine", {"init_info": {"packed": False}})

    async def send(self, client: Client, bucket: Bucket) -> None:
        from torch.multiprocessing.reductions import reduce_tensor

        handles = [{self._gpu: reduce_tensor(tensor)[1]} for tensor in bucket.values()]
        pickled = base64.b64encode(pickle.dumps(handles)).decode()
        update = bucket_info(bucket) | {"ipc_handles_pickled": pickled}
        await client.post("/update_weights", {"update_info": update})

    def close(self) -> None:
        torch.cuda.ipc_collect()


class NCCL:
    """A group of this process and one server, for each server; this process has rank 0.

    A server that dies takes down its own group alone.
    """

    def __init__(self) -> None:
        self._device = torch.cuda.current_device()
        self._groups: dict[Server, Any] = {}

    async def open(self, client: Client) -> None:
        workers = int((await worker_of(client))["workers"])
        with closing(socket.create_server(("", 0))) as free:
            port = free.getsockname()[1]
        group = {
            "master_address": _address_towards(client.server),
            "master_port": port,
            "world_size": 1 + workers,
        }
        init_info = group | {"rank_offset": 1, "packed": False}
        request = client.post("/init_weight_transfer_engine", {"init_info": init_info})
        _, self._groups[client.server] = await together(
            [request, asyncio.to_thread(self._join, group)]
        )

    def _join(self, group: dict[str, Any]) -> Any:
        from vllm.distributed.weight_transfer.nccl_common import trainer_init

        torch.cuda.set_device(self._device)  # of this thread
        return require_nccl(trainer_init(group))

    async def send(self, client: Client, bucket: Bucket) -> None:
        stream, group = torch.cuda.current_stream(), self._groups[client.server]
        request = client.post("/update_weights", {"update_info": bucket_info(bucket)})
        await together([request, asyncio.to_thread(self._broadcast, group, bucket, stream)])

    def _broadcast(self, group: Any, bucket: Bucket, stream: torch.cuda.Stream) -> None:
        with torch.cuda.device(self._device):
            for tensor in bucket.values():
                group.broadcast(tensor, src=0, stream=stream)

    def close(self) -> None:
        """Leave the groups to end with the process: NCCL may wait for a server that is gone."""


def require_nccl(group: Any) -> Any:
    """Return ``group`` if it can send: if vLLM cannot load NCCL, its groups silently do nothing.

    Raises:
        EngineServerError: the group cannot send.
    """
    if group.disabled:
        raise EngineServerError(
            "no weights can be sent: vLLM cannot load NCCL, which must be of the version that vLLM "
            "was built for (libnccl.so.2, or the file that VLLM_NCCL_SO_PATH names); "
            "rollout.servers.transfer=folder does without it"
        )
    return group


def _address_towards(server: Server) -> str:
    """The address at which a server reaches this machine."""
    if server.socket is not None:
        return "127.0.0.1"
    parts = urlsplit(server.url)
    with closing(socket.socket(socket.AF_INET, socket.SOCK_DGRAM)) as probe:
        probe.connect((parts.hostname or "", parts.port or 80))  # sends nothing
        return str(probe.getsockname()[0])


TRANSPORTS: dict[str, type[IPC] | type[NCCL]] = {"ipc": IPC, "nccl": NCCL}


class Pusher:
    """Sends weights to the servers of one rank.

    Args:
        transport: sends each bucket.
        dtype: precision that the servers compute in.
    """

    def __init__(self, transport: Transport, dtype: torch.dtype):
        self.transport, self.dtype = transport, dtype
        self._open: set[Server] = set()

    async def push(
        self, clients: Sequence[Client], weights: Iterator[tuple[str, Tensor]], label: str
    ) -> None:
        """Replace the weights of all living servers, one bucket at a time, and label them.

        The servers must get no requests during this. A server that dies is marked as dead.

        Raises:
            EngineServerError: a server lives, and did not take them.
        """
        await together([unless_dead(client, self._begin(client)) for client in clients])
        for bucket in buckets(weights, self.dtype):
            await together(
                [unless_dead(client, self.transport.send(client, bucket)) for client in clients]
            )
        await together([unless_dead(client, _finish(client, label)) for client in clients])

    async def _begin(self, client: Client) -> None:
        await client.post("/pause?mode=abort")
        if client.server not in self._open:
            await self.transport.open(client)
            self._open.add(client.server)
        await client.post("/start_weight_update")

    def close(self) -> None:
        self.transport.close()


async def _finish(client: Client, label: str) -> None:
    await client.post("/finish_weight_update")
    await relabel(client, label)
