"""What a server is told beside prompts: whether it is ready and fits, and which weights to take."""

import asyncio
import time
from collections.abc import Coroutine
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from asym_lightning.rollout.server_client import Client, EngineServerError, LostRequestError

_POLL_S = 0.1


@dataclass(frozen=True)
class Needs:
    """What a run needs of its servers: what they compute in, the longest prompt plus completion in tokens, and how weights come."""

    dtype: str
    max_model_len: int
    transfer: str = "folder"


async def wait_until_ready(client: Client, needs: Needs, timeout_s: float) -> None:
    """Return when the server answers.

    Raises:
        EngineServerError: it ended, did not answer within ``timeout_s``, or does not fit the run.
    """
    server, end = client.server, time.monotonic() + timeout_s
    while not await client.healthy():
        code = server.process.exit_code() if server.process else None
        if code is not None or time.monotonic() > end:
            why = f"did not answer within rollout.servers.start_timeout_s={timeout_s:g}" if code is None else f"ended with exit code {code}"
            log = f"; {server.process.log} ends with:\n{server.process.last_lines()}" if server.process else ""
            raise EngineServerError(f"the server {server.url} {why}{log}")
        await asyncio.sleep(_POLL_S)
    found = await worker_of(client)
    wrong = [f"dtype={found['dtype']}, the trainer asks for {needs.dtype}"] if found["dtype"] != needs.dtype else []
    if found["max_model_len"] < needs.max_model_len:
        wrong.append(f"max_model_len={found['max_model_len']}, prompts and completions take {needs.max_model_len}")
    if found["logprobs_mode"] != "processed_logprobs":
        wrong.append(f"logprobs_mode={found['logprobs_mode']}, not processed_logprobs")
    if needs.transfer not in ("folder", found["transfer"]):
        wrong.append(f"it takes weights through a folder only: start it with --weight-transfer {needs.transfer}")
    if wrong:
        raise EngineServerError(f"the server {server.url} does not fit this run: {'; '.join(wrong)}")


async def worker_of(client: Client) -> dict[str, Any]:
    """What the server's first worker says of itself."""
    found: dict[str, Any] = (await client.post("/collective_rpc", {"method": "describe"}))["results"][0]
    return found


async def or_dead(client: Client, work: Coroutine[Any, Any, None]) -> None:
    """Do something with a server's weights. A server that dies of it, or was dead, is noted as dead.

    Raises:
        EngineServerError: it lives, and holds other weights.
    """
    if client.server.dead:
        return work.close()
    try:
        return await work
    except LostRequestError as why:
        if not await client.lost(str(why)):
            raise EngineServerError(f"the server {client.server.name} did not take new weights: {why}") from None


async def relabel(client: Client, label: str) -> None:
    """After a change of weights: nothing that the server computed from those before stays, and whatever it samples has the label."""
    if not (await client.post("/reset_prefix_cache"))["success"]:
        raise EngineServerError(f"the server {client.server.name} still holds keys and values of earlier weights")
    await client.post("/update_weight_version", {"new_version": label})
    await client.post("/resume")


async def take_weights(client: Client, folder: Path) -> None:
    """Have the server replace its weights by those in ``folder``, the name of which is their label.

    Raises:
        EngineServerError: it has not done so.
        LostRequestError: it gives no answer.
    """
    await client.post("/pause?mode=abort")
    for worker in (await client.post("/collective_rpc", {"method": "take_weights", "args": [str(folder)]}))["results"]:
        if worker["label"] != folder.name:
            raise EngineServerError(f"the server {client.server.name} did not take the weights in {folder}: {worker.get('error')}")
    await relabel(client, folder.name)
