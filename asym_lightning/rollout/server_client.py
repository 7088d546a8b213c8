"""Requests to vLLM servers: prompts are spread over the servers that are alive."""

import asyncio
import logging
from collections.abc import AsyncIterator, Coroutine, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn, TypeVar

import aiohttp

from asym_lightning.rollout.server_process import ServerProcess
from asym_lightning.runtime.log import ALL_RANKS
from asym_lightning.runtime.watch.phases import mark

log = logging.getLogger(__name__)
_HEALTH_S, _DYING_S = 10.0, 5.0
T = TypeVar("T")


class EngineServerError(RuntimeError):
    """A failure of servers after which the run cannot go on."""


class LostRequestError(Exception):
    """A request that got no answer."""


@dataclass(eq=False)
class Server:
    """One server.

    Attributes:
        url: its address.
        socket: its socket file, if the run started it.
        process: its process, if the run started it.
        dead: why it is dead; empty while it is alive.
    """

    url: str
    socket: Path | None = None
    process: ServerProcess | None = None
    dead: str = ""

    @property
    def name(self) -> str:
        if self.process is None:
            return self.url
        return f"{self.url} (process {self.process.pid}, {self.process.log})"


class Client:
    """An open connection to a server.

    Args:
        server: the server to connect to.
        key: its API key.
        timeout_s: how long an answer may take.
    """

    def __init__(self, server: Server, key: str | None, timeout_s: float):
        self.server = server
        # A server that this run started listens on a socket file, and asks for no key.
        headers = {"Authorization": f"Bearer {key}"} if key and not server.process else {}
        connector: aiohttp.BaseConnector
        if server.socket:
            base = "http://localhost"
            connector = aiohttp.UnixConnector(str(server.socket), limit=0)
        else:
            base = server.url
            connector = aiohttp.TCPConnector(limit=0)
        self._session = aiohttp.ClientSession(
            base, connector=connector, headers=headers, timeout=aiohttp.ClientTimeout(timeout_s)
        )
        self._timeout_s = timeout_s
        self._health_lock = asyncio.Lock()

    async def close(self) -> None:
        await self._session.close()

    async def post(self, path: str, body: Mapping[str, Any] | None = None) -> Any:
        """Send a request and return its answer; None if the answer is not JSON.

        Raises:
            LostRequestError: there is no answer, or the server failed.
            EngineServerError: the server refuses the request.
        """
        try:
            async with self._session.post(path, json=body or {}) as response:
                if response.status == 200:
                    if response.content_type != "application/json":
                        return None
                    return await response.json()
                reason = " ".join((await response.text()).split())[:500]
        except TimeoutError:
            raise LostRequestError(f"no answer to {path} within {self._timeout_s:g} s") from None
        except (aiohttp.ClientError, OSError) as error:
            raise LostRequestError(f"{type(error).__name__}: {error}") from None
        if response.status >= 500:
            raise LostRequestError(f"{path}: status {response.status}: {reason}")
        hint = ""
        if response.status in (403, 404):
            hint = ": was it started by `python -m asym_lightning.serve`?"
        raise EngineServerError(
            f"the server {self.server.name} refuses {path} with status "
            f"{response.status}{hint}: {reason}"
        )

    async def healthy(self) -> bool:
        timeout = aiohttp.ClientTimeout(min(_HEALTH_S, self._timeout_s))
        try:
            async with self._session.get("/health", timeout=timeout) as response:
                return response.status == 200
        except (TimeoutError, aiohttp.ClientError, OSError):
            return False

    async def lost(self, why: str) -> bool:
        """Whether the server is dead, asked after a lost request.

        The reason of its death is kept in ``server.dead`` and logged once.
        """
        server = self.server
        async with self._health_lock:
            if server.dead:
                return True
            healthy = await self.healthy()
            ended = server.process is not None and server.process.exit_code() is not None
            if healthy and not ended:
                return False
            code = None
            if server.process is not None:
                code = await asyncio.to_thread(server.process.exit_code, _DYING_S)
            if code is not None:
                server.dead = f"ended with exit code {code}"
            else:
                server.dead = f"does not answer ({why})"
            log.info(
                f"the server {server.name} {server.dead}; its prompts are given to the others",
                extra=ALL_RANKS,
            )
            return True


@asynccontextmanager
async def connected(
    servers: Sequence[Server], key: str | None, timeout_s: float
) -> AsyncIterator[list[Client]]:
    """Connections to the servers that are not dead.

    Raises:
        EngineServerError: all are dead, before or after the work with them.
    """
    clients = [Client(server, key, timeout_s) for server in servers if not server.dead]
    try:
        if not clients:
            raise_all_dead(servers)
        yield clients
        if all(server.dead for server in servers):
            raise_all_dead(servers)
    finally:
        for client in clients:
            await client.close()


def raise_all_dead(servers: Sequence[Server]) -> NoReturn:
    """Raise an EngineServerError that says how each server ended, with the end of a log."""
    ends = "; ".join(f"{server.name} {server.dead}" for server in servers)
    lines = [f"no server is left to sample from: {ends}"]
    processes = [server.process for server in servers if server.process]
    if processes:
        lines.append(f"{processes[-1].log} ends with:\n{processes[-1].last_lines()}")
    raise EngineServerError("\n".join(lines))


async def together(work: Sequence[Coroutine[Any, Any, T]]) -> list[T]:
    """Run coroutines concurrently and return their results in order; the first error ends all."""
    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(coroutine) for coroutine in work]
    except ExceptionGroup as several:
        raise several.exceptions[0] from None
    return [task.result() for task in tasks]


async def answers(
    servers: Sequence[Server],
    key: str | None,
    timeout_s: float,
    *,
    bodies: Sequence[Mapping[str, Any]],
    at_once: int,
    retries: int,
) -> list[Any]:
    """Have any free server answer each body, and return the answers in order.

    Every server works on ``at_once`` bodies at a time. The bodies of a dead server are given to the
    others. A body that a living server did not answer is asked again, ``retries`` times.

    Raises:
        EngineServerError: no server is left, one refuses a request, or a request gets no answer.
    """
    # Number of a body, and how often a living server has lost it.
    queue: asyncio.Queue[tuple[int, int]] = asyncio.Queue()
    for i in range(len(bodies)):
        queue.put_nowait((i, 0))
    by_number: dict[int, Any] = {}
    done = asyncio.Event()

    async def work_off(client: Client) -> None:
        while True:
            i, losses = await queue.get()
            if client.server.dead:
                queue.put_nowait((i, losses))
                return
            try:
                by_number[i] = await client.post("/inference/v1/generate", bodies[i])
                mark()
            except LostRequestError as why:
                if await client.lost(str(why)):
                    queue.put_nowait((i, losses))
                    if all(server.dead for server in servers):
                        raise_all_dead(servers)
                elif losses >= retries:
                    raise EngineServerError(
                        f"the server {client.server.name} lost a request {losses + 1} times: {why}"
                    ) from None
                else:
                    queue.put_nowait((i, losses + 1))
            if len(by_number) == len(bodies):
                done.set()

    if not bodies:
        return []
    async with connected(servers, key, timeout_s) as clients:
        work = [work_off(client) for client in clients for _ in range(min(at_once, len(bodies)))]
        await _run_until(done, work)
    return [by_number[i] for i in range(len(bodies))]


async def _run_until(done: asyncio.Event, work: Sequence[Coroutine[Any, Any, None]]) -> None:
    """Run coroutines until ``done``, then cancel them; an error in one of them is raised."""
    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(coroutine) for coroutine in work]
            await done.wait()
            for task in tasks:
                task.cancel()
    except ExceptionGroup as several:
        raise several.exceptions[0] from None
