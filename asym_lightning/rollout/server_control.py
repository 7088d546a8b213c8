"""Requests to a server beside prompts: whether it is ready and fits, and which weights to take."""

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
    """Requirements of a run on its servers.

    Attributes:
        dtype: precision that they compute in.
        max_model_len: longest prompt plus completion, in tokens.
        transfer: how weights reach them.
    """

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
            why = f"ended with exit code {code}"
            if code is None:
                why = f"did not answer within rollout.servers.start_timeout_s={timeout_s:g}"
            log = ""
            if server.process:
                log = f"; {server.process.log} ends with:\n{server.process.last_lines()}"
            raise EngineServerError(f"the server {server.url} {why}{log}")
        await asyncio.sleep(_POLL_S)
    mismatches = _mismatches(await worker_of(client), needs)
    if mismatches:
        raise EngineServerError(
            f"the server {server.url} does not fit this run: {'; '.join(mismatches)}"
        )


def _mismatches(worker: dict[str, Any], needs: Needs) -> list[str]:
    """The settings of a server's worker that do not fit the run, each with the setting wanted."""
    mismatches = []
    if worker["dtype"] != needs.dtype:
        mismatches.append(f"dtype={worker['dtype']}, the trainer asks for {needs.dtype}")
    if worker["max_model_len"] < needs.max_model_len:
        mismatches.append(
            f"max_model_len={worker['max_model_len']}, prompts and completions take "
            f"{needs.max_model_len}"
        )
    if worker["logprobs_mode"] != "processed_logprobs":
        mismatches.append(f"logprobs_mode={worker['logprobs_mode']}, not processed_logprobs")
    if needs.transfer not in ("folder", worker["transfer"]):
        mismatches.append(
            "it takes weights through a folder only: start it with --weight-transfer "
            f"{needs.transfer}"
        )
    return mismatches


async def worker_of(client: Client) -> dict[str, Any]:
    """The description that the server's first worker gives of itself."""
    answer = await client.post("/collective_rpc", {"method": "describe"})
    worker: dict[str, Any] = answer["results"][0]
    return worker


async def unless_dead(client: Client, work: Coroutine[Any, Any, None]) -> None:
    """Change a server's weights, unless the server is dead or dies of it; then mark it as dead.

    Raises:
        EngineServerError: the server is alive, but did not take the new weights.
    """
    if client.server.dead:
        return work.close()
    try:
        return await work
    except LostRequestError as why:
        if not await client.lost(str(why)):
            raise EngineServerError(
                f"the server {client.server.name} did not take new weights: {why}"
            ) from None


async def relabel(client: Client, label: str) -> None:
    """Finish a change of weights.

    Drops keys and values computed from earlier weights, labels all new samples, and resumes.
    """
    if not (await client.post("/reset_prefix_cache"))["success"]:
        raise EngineServerError(
            f"the server {client.server.name} still holds keys and values of earlier weights"
        )
    await client.post("/update_weight_version", {"new_version": label})
    await client.post("/resume")


async def take_weights(client: Client, folder: Path) -> None:
    """Have the server replace its weights by those in ``folder``, whose name is their label.

    Raises:
        EngineServerError: it has not done so.
        LostRequestError: it gives no answer.
    """
    await client.post("/pause?mode=abort")
    request = {"method": "take_weights", "args": [str(folder)]}
    for worker in (await client.post("/collective_rpc", request))["results"]:
        if worker["label"] != folder.name:
            raise EngineServerError(
                f"the server {client.server.name} did not take the weights in {folder}: "
                f"{worker.get('error')}"
            )
    await relabel(client, folder.name)
