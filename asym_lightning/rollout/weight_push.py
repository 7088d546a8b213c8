"""New weights from the policy's GPU straight into servers, by vLLM's own transfer: NCCL, or CUDA IPC where both share a GPU."""

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
from asym_lightning.rollout.server_control import or_dead, relabel, worker_of
from asym_lightning.rollout.weight_folder import buckets

Bucket = Mapping[str, Tensor]


class Transport(Protocol):
    """How the tensors of a bucket reach a server. ``open`` comes once per server, before the first ``send``."""

    async def open(self, client: Client) -> None: ...

    async def send(self, client: Client, bucket: Bucket) -> None: ...

    def close(self) -> None: ...


def described(bucket: Bucket) -> dict[str, Any]:
    """What a server has to know of a bucket before it comes."""
    return {
        "names": list(bucket),
        "dtype_names": [str(tensor.dtype).removeprefix("torch.") for tensor in bucket.values()],
        "shapes": [list(tensor.shape) for tensor in bucket.values()],
    }


class IPC:
    """The server, a process of this user, reads the tensors where they lie. What it still reads is kept from being used anew by torch,
    which counts the readers of a tensor that it handed out."""

    def __init__(self) -> None:
        self._gpu = str(torch.cuda.get_device_properties(torch.cuda.current_device()).uuid)

    async def open(self, client: Client) -> None:
        await client.post("/init_weight_transfer_engine", {"init_info": {"packed": False}})

    async def send(self, client: Client, bucket: Bucket) -> None:
        from torch.multiprocessing.reductions import reduce_tensor

        handles = [{self._gpu: reduce_tensor(tensor)[1]} for tensor in bucket.values()]
        update = described(bucket) | {"ipc_handles_pickled": base64.b64encode(pickle.dumps(handles)).decode()}
        await client.post("/update_weights", {"update_info": update})

    def close(self) -> None:
        torch.cuda.ipc_collect()


class NCCL:
    """A group of two for each server, this process first: a server that dies takes none but its own with it."""

    def __init__(self) -> None:
        self._device = torch.cuda.current_device()
        self._groups: dict[Server, Any] = {}

    async def open(self, client: Client) -> None:
        workers = int((await worker_of(client))["workers"])
        with closing(socket.create_server(("", 0))) as free:
            port = free.getsockname()[1]
        group = {"master_address": _address_towards(client.server), "master_port": port, "world_size": 1 + workers}
        asked = client.post("/init_weight_transfer_engine", {"init_info": group | {"rank_offset": 1, "packed": False}})
        _, self._groups[client.server] = await together([asked, asyncio.to_thread(self._join, group)])

    def _join(self, group: dict[str, Any]) -> Any:
        from vllm.distributed.weight_transfer.nccl_common import trainer_init

        torch.cuda.set_device(self._device)  # of this thread
        return working(trainer_init(group))

    async def send(self, client: Client, bucket: Bucket) -> None:
        stream = torch.cuda.current_stream()
        asked = client.post("/update_weights", {"update_info": described(bucket)})
        await together([asked, asyncio.to_thread(self._broadcast, self._groups[client.server], bucket, stream)])

    def _broadcast(self, group: Any, bucket: Bucket, stream: torch.cuda.Stream) -> None:
        with torch.cuda.device(self._device):
            for tensor in bucket.values():
                group.broadcast(tensor, src=0, stream=stream)

    def close(self) -> None:
        """The groups end with the process: to leave one, NCCL may wait for a server that is gone."""


def working(group: Any) -> Any:
    """``group``, if it sends anything: where vLLM cannot load NCCL it makes one that does nothing, without a word.

    Raises:
        EngineServerError: it does not.
    """
    if group.disabled:
        raise EngineServerError(
            "no weights can be sent: vLLM cannot load NCCL, which has to be of the version that vLLM was built for (libnccl.so.2, or the "
            "file that VLLM_NCCL_SO_PATH names); rollout.servers.transfer=folder does without it"
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
        transport: of each bucket.
        dtype: what the servers compute in.
    """

    def __init__(self, transport: Transport, dtype: torch.dtype):
        self.transport, self.dtype = transport, dtype
        self._open: set[Server] = set()

    async def push(self, clients: Sequence[Client], weights: Iterator[tuple[str, Tensor]], label: str) -> None:
        """Replace the weights of all servers that live by ``weights``, one bucket at a time, and label them. Nothing may be asked of the
        servers meanwhile. A server that dies is noted as dead.

        Raises:
            EngineServerError: one lives, and did not take them.
        """
        await together([or_dead(client, self._begin(client)) for client in clients])
        for bucket in buckets(weights, self.dtype):
            await together([or_dead(client, self.transport.send(client, bucket)) for client in clients])
        await together([or_dead(client, _finish(client, label)) for client in clients])

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
