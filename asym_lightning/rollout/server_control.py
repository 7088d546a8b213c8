"""What a server is told beside prompts: whether it is ready and fits, and which weights to take."""

import asyncio
import time
from dataclasses import dataclass
from pathlib import Path

from asym_lightning.rollout.server_client import Client, EngineServerError, LostRequestError

_POLL_S = 0.1


@dataclass(frozen=True)
class Needs:
    """What a run needs of its servers: what they compute in, and the longest prompt plus completion in tokens."""

    dtype: str
    max_model_len: int


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
    found = (await client.post("/collective_rpc", {"method": "describe"}))["results"][0]
    wrong = [f"dtype={found['dtype']}, the trainer asks for {needs.dtype}"] if found["dtype"] != needs.dtype else []
    if found["max_model_len"] < needs.max_model_len:
        wrong.append(f"max_model_len={found['max_model_len']}, prompts and completions take {needs.max_model_len}")
    if found["logprobs_mode"] != "processed_logprobs":
        wrong.append(f"logprobs_mode={found['logprobs_mode']}, not processed_logprobs")
    if wrong:
        raise EngineServerError(f"the server {server.url} does not fit this run: {'; '.join(wrong)}")


async def take_weights(client: Client, folder: Path) -> None:
    """Have the server replace its weights by those in ``folder``, and label with its name whatever it samples from now on. Nothing that
    it computed from the weights before stays. A server that dies is noted as dead.

    Raises:
        EngineServerError: it lives, and holds other weights.
    """
    name = client.server.name
    try:
        await client.post("/pause?mode=abort")
        for worker in (await client.post("/collective_rpc", {"method": "take_weights", "args": [str(folder)]}))["results"]:
            if worker["label"] != folder.name:
                raise EngineServerError(f"the server {name} did not take the weights in {folder}: {worker.get('error')}")
        if not (await client.post("/reset_prefix_cache"))["success"]:
            raise EngineServerError(f"the server {name} still holds keys and values of earlier weights")
        await client.post("/update_weight_version", {"new_version": folder.name})
        await client.post("/resume")
    except LostRequestError as why:
        if not await client.lost(str(why)):
            raise EngineServerError(f"the server {name} did not take new weights: {why}") from None
