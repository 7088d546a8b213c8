"""Talking to vLLM servers: new weights for all of them, prompts spread over those that are alive."""

import asyncio
from collections.abc import AsyncIterator, Coroutine, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import aiohttp

from asym_lightning.rollout.server_process import ServerProcess
from asym_lightning.runtime.watch.phases import mark

_HEALTH_S, _DYING_S = 10.0, 5.0
T = TypeVar("T")


class EngineServerError(RuntimeError):
    """Servers that the run cannot go on with."""


class LostRequestError(Exception):
    """A request that got no answer."""


@dataclass(eq=False)
class Server:
    """One server: its ``url``, for one that the run started its socket file and process, and why it is ``dead`` if it is."""

    url: str
    socket: Path | None = None
    process: ServerProcess | None = None
    dead: str = ""

    @property
    def name(self) -> str:
        return f"{self.url} (process {self.process.pid}, {self.process.log})" if self.process else self.url


class Client:
    """An open connection to a server.

    Args:
        server: whom to talk to.
        key: its API key.
        timeout_s: how long an answer may take.
    """

    def __init__(self, server: Server, key: str | None, timeout_s: float):
        self.server = server
        headers = {"Authorization": f"Bearer {key}"} if key and not server.process else {}
        connector = aiohttp.UnixConnector(str(server.socket), limit=0) if server.socket else aiohttp.TCPConnector(limit=0)
        base = "http://localhost" if server.socket else server.url
        self._session = aiohttp.ClientSession(base, connector=connector, headers=headers, timeout=aiohttp.ClientTimeout(timeout_s))
        self._timeout_s = timeout_s
        self._health = asyncio.Lock()

    async def close(self) -> None:
        await self._session.close()

    async def post(self, path: str, body: Mapping[str, Any] | None = None) -> Any:
        """The answer to a request.

        Raises:
            LostRequestError: there is none, or the server failed.
            EngineServerError: the server refuses the request.
        """
        try:
            async with self._session.post(path, json=body or {}) as response:
                if response.status == 200:
                    return await response.json() if response.content_type == "application/json" else None
                said = " ".join((await response.text()).split())[:500]
        except TimeoutError:
            raise LostRequestError(f"no answer to {path} within {self._timeout_s:g} s") from None
        except (aiohttp.ClientError, OSError) as error:
            raise LostRequestError(f"{type(error).__name__}: {error}") from None
        if response.status >= 500:
            raise LostRequestError(f"{path}: status {response.status}: {said}")
        hint = ": was it started by `python -m asym_lightning.serve`?" if response.status in (403, 404) else ""
        raise EngineServerError(f"the server {self.server.name} refuses {path} with status {response.status}{hint}: {said}")

    async def healthy(self) -> bool:
        try:
            async with self._session.get("/health", timeout=aiohttp.ClientTimeout(min(_HEALTH_S, self._timeout_s))) as response:
                return response.status == 200
        except (TimeoutError, aiohttp.ClientError, OSError):
            return False

    async def lost(self, why: str) -> bool:
        """After a request was lost: whether the server is dead. What is known of its end is kept, and said once."""
        server = self.server
        async with self._health:
            if server.dead or (await self.healthy() and not (server.process and server.process.exit_code() is not None)):
                return bool(server.dead)
            code = await asyncio.to_thread(server.process.exit_code, _DYING_S) if server.process else None
            server.dead = f"ended with exit code {code}" if code is not None else f"does not answer ({why})"
            print(f"the server {server.name} {server.dead}; its prompts are given to the others", flush=True)
            return True


@asynccontextmanager
async def connected(servers: Sequence[Server], key: str | None, timeout_s: float) -> AsyncIterator[list[Client]]:
    """Connections to the servers that are not dead.

    Raises:
        EngineServerError: there is none.
    """
    clients = [Client(server, key, timeout_s) for server in servers if not server.dead]
    try:
        yield clients or none_left(servers)
    finally:
        for client in clients:
            await client.close()


def none_left(servers: Sequence[Server]) -> list[Client]:
    ends = "; ".join(f"{server.name} {server.dead}" for server in servers)
    logs = [f"{server.process.log} ends with:\n{server.process.last_lines()}" for server in servers if server.process]
    raise EngineServerError("\n".join([f"no server is left to sample from: {ends}", *logs[-1:]]))


async def together(work: Sequence[Coroutine[Any, Any, T]]) -> list[T]:
    """All results, in order; the first error ends the others."""
    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(one) for one in work]
    except ExceptionGroup as several:
        raise several.exceptions[0] from None
    return [task.result() for task in tasks]


async def answers(
    servers: Sequence[Server], key: str | None, timeout_s: float, bodies: Sequence[Mapping[str, Any]], at_once: int, retries: int
) -> list[Any]:
    """The answer to each body, from whichever server is free; every server has ``at_once`` of them at a time. What a dead server had is
    given to the others; what a living one did not answer is asked again, ``retries`` times.

    Raises:
        EngineServerError: no server is left, one refuses a request, or a request stays without an answer.
    """
    queue: asyncio.Queue[tuple[int, int]] = asyncio.Queue()
    for i in range(len(bodies)):
        queue.put_nowait((i, 0))
    found: dict[int, Any] = {}
    done = asyncio.Event()

    async def lane(client: Client) -> None:
        while True:
            i, before = await queue.get()
            if client.server.dead:
                queue.put_nowait((i, before))
                return
            try:
                found[i] = await client.post("/inference/v1/generate", bodies[i])
                mark()
            except LostRequestError as why:
                if await client.lost(str(why)):
                    queue.put_nowait((i, before))
                    if all(server.dead for server in servers):
                        none_left(servers)
                elif before >= retries:
                    raise EngineServerError(f"the server {client.server.name} lost a request {before + 1} times: {why}") from None
                else:
                    queue.put_nowait((i, before + 1))
            if len(found) == len(bodies):
                done.set()

    if not bodies:
        return []
    async with connected(servers, key, timeout_s) as clients:
        lanes = [lane(client) for client in clients for _ in range(min(at_once, len(bodies)))]
        await _until(done, lanes)
    return [found[i] for i in range(len(bodies))]


async def _until(done: asyncio.Event, work: Sequence[Coroutine[Any, Any, None]]) -> None:
    """Let coroutines that need not end work until ``done``; an error in one of them is raised."""
    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(one) for one in work]
            await done.wait()
            for task in tasks:
                task.cancel()
    except ExceptionGroup as several:
        raise several.exceptions[0] from None
