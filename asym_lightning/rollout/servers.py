"""Rollouts by vLLM servers, processes of their own (rollout=servers)."""

import asyncio
import os
import weakref
from collections.abc import Callable, Coroutine, Iterable, Iterator, Sequence
from contextlib import AbstractAsyncContextManager, suppress
from functools import partial
from operator import itemgetter
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from asym_lightning.rollout.base import Sample, Sampling
from asym_lightning.rollout.server_client import Client, EngineServerError, Server, answers, connected, none_left, together
from asym_lightning.rollout.server_control import Needs, or_dead, take_weights, wait_until_ready
from asym_lightning.rollout.server_process import ServerProcess, gpu_for
from asym_lightning.rollout.server_settings import ServerSettings
from asym_lightning.rollout.weight_folder import Outbox, Scratch
from asym_lightning.rollout.weight_push import TRANSPORTS, Pusher
from asym_lightning.runtime.ranks import from_first, over_ranks


class ServerEngine:
    """The servers of one rank. They may work while the policy learns: ``publish`` is for the main thread and all ranks in step, what
    else is here exchanges nothing with other ranks and may be called from another thread.

    Args:
        path: folder or hub id of the model that servers start from; its weights are replaced by the first sync.
        dtype: what the servers compute in, ``float32`` or ``bfloat16``.
        max_model_len: longest prompt plus completion, in tokens.
        max_num_seqs: completions decoded at once by one server.
        settings: which servers, and how long they are waited for.
        logs: folder for what the servers print.
        options: further options of vLLM for the servers that are started.
        kv_cache_gb: size of a started server's key-value cache on CPU.
        rank, world: of this process among those that train.
        machines: that the ranks are on, equally many on each.

    Raises:
        EngineServerError: a server does not start, or is another one than the run needs.
    """

    def __init__(
        self,
        path: str,
        dtype: str,
        max_model_len: int,
        max_num_seqs: int,
        settings: ServerSettings,
        logs: Path,
        options: Sequence[str] = (),
        kv_cache_gb: int = 1,
        rank: int = 0,
        world: int = 1,
        machines: int = 1,
    ):
        self.settings, self.max_num_seqs = settings, max_num_seqs
        self.version, self._label, self._loaded, self._pushes = 0, "", 0, 0
        self._scratch = Scratch()
        self._pusher = Pusher(TRANSPORTS[settings.transfer](), getattr(torch, dtype)) if settings.transfer != "folder" else None
        shared = Path(settings.folder or self._scratch.path).resolve() / f"weights-{self._scratch.path.name}"
        self._outbox = Outbox(Path(from_first(str(shared))), rank, getattr(torch, dtype), reuse=settings.folder is None)
        self.servers: list[Server] = []
        self._closed = False
        self._asking: tuple[asyncio.AbstractEventLoop, asyncio.Future[Any]] | None = None
        self._end = weakref.finalize(self, _end, os.getpid(), self.servers, self._outbox, self._scratch, self._pusher)
        try:
            for n, number in enumerate(settings.own(rank, world)):
                if settings.urls:
                    self.servers.append(Server(settings.urls[number].rstrip("/")))
                    continue
                socket = self._scratch.path / f"{number}.sock"
                numbers = {"dtype": dtype, "max-model-len": max_model_len, "max-num-seqs": max_num_seqs}
                arguments = [path, "--uds", str(socket), *(f"--{key}={value}" for key, value in numbers.items()), *options]
                arguments += [] if settings.transfer == "folder" else ["--weight-transfer", settings.transfer]
                local = world // machines
                gpu = gpu_for(n, rank % local, local, settings.transfer == "ipc")
                environment = {"VLLM_CPU_KVCACHE_SPACE": str(kv_cache_gb)} | gpu
                self.servers.append(Server(f"unix:{socket}", socket, ServerProcess(arguments, environment, logs / f"{number}.log")))
            ready = partial(wait_until_ready, needs=Needs(dtype, max_model_len, settings.transfer), timeout_s=settings.start_timeout_s)
            asyncio.run(self._on_all(ready))
        except BaseException:
            self.close()
            raise

    async def _on_all(self, work: Callable[[Client], Coroutine[Any, Any, None]]) -> None:
        """Do something with every server that is not dead."""
        async with self._connected() as clients:
            await together([work(client) for client in clients])
        if all(server.dead for server in self.servers):
            none_left(self.servers)

    def _connected(self) -> AbstractAsyncContextManager[list[Client]]:
        return connected(self.servers, self.settings.api_key, self.settings.request_timeout_s)

    @property
    def idle_publish(self) -> bool:
        """Whether servers take new weights while these are published, so that nothing may be asked of them meanwhile."""
        return self._pusher is not None

    def publish(self, weights: Iterable[tuple[str, Tensor]], version: int) -> None:
        """Put weights where the servers can get them, or into the servers; all ranks in step.

        Raises:
            EngineServerError: a server of some rank did not take them.
        """
        if self._pusher is None:
            return self._outbox.publish(weights, version)
        self._pushes += 1
        label, tensors, failure = f"{self._scratch.path.name}-{self._pushes}-v{version}", iter(weights), ""
        try:
            asyncio.run(self._push(self._pusher, tensors, label))
        except EngineServerError as error:
            failure = str(error)
        for _ in tensors:  # all ranks gather shards in step
            pass
        if int(over_ranks(torch.tensor(bool(failure)).long(), "max")):
            raise EngineServerError(failure or "a server of another rank did not take new weights; that rank says which")
        self.version, self._label = version, label

    async def _push(self, pusher: Pusher, tensors: Iterator[tuple[str, Tensor]], label: str) -> None:
        async with self._connected() as clients:
            await pusher.push(clients, tensors, label)
        if all(server.dead for server in self.servers):
            none_left(self.servers)

    def load(self, version: int) -> None:
        """Have this rank's servers take what was published last as ``version``.

        Raises:
            EngineServerError: a server says that it holds other weights, or none is left.
        """
        if self._pusher is not None:
            if version != self.version:
                raise EngineServerError(f"the servers hold the weights of iteration {self.version}, not of {version}")
            return
        number, folder = self._outbox.find(version)
        if number == self._loaded:
            return

        async def load(client: Client) -> None:
            await or_dead(client, take_weights(client, folder))

        asyncio.run(self._on_all(load))
        self.version, self._label, self._loaded = version, folder.name, number
        self._outbox.taken = number

    def sync(self, weights: Iterable[tuple[str, Tensor]], version: int) -> None:
        self.publish(weights, version)
        self.load(version)

    def generate(self, prompts: Sequence[Sequence[int]], sampling: Sampling, seeds: Sequence[int]) -> list[list[Sample]]:
        common = {
            "n": sampling.n,
            "temperature": sampling.temperature,
            "max_tokens": sampling.max_tokens,
            "stop_token_ids": list(sampling.stop_ids),
            "ignore_eos": True,  # the stop ids hold every end token; a server would add those of its own model's tokenizer and config
            "logprobs": 0,
            "detokenize": False,
        }
        found = self._ask(prompts, [common | {"seed": seed} for seed in seeds])
        return [[self._sample(choice) for choice in sorted(one["choices"], key=itemgetter("index"))] for one in found]

    def prompt_logprobs(self, prompts: Sequence[Sequence[int]]) -> list[list[float]]:
        """Log-prob (nats, at temperature 1) of each token of each prompt but its first."""
        asked = {"max_tokens": 1, "temperature": 0.0, "prompt_logprobs": 0, "detokenize": False, "logprobs": 0}
        found = self._ask(prompts, [asked] * len(prompts))
        for one in found:
            self._check_label(one["choices"][0])
        return [
            [entry[str(token)]["logprob"] for token, entry in zip(prompt[1:], one["prompt_logprobs"][1:], strict=True)]
            for prompt, one in zip(prompts, found, strict=True)
        ]

    def _ask(self, prompts: Sequence[Sequence[int]], sampling: Sequence[dict[str, Any]]) -> list[Any]:
        if not self._label:
            raise EngineServerError("no weights were synced: the servers hold others than the policy's")
        bodies = [{"token_ids": list(ids), "sampling_params": params} for ids, params in zip(prompts, sampling, strict=True)]
        at_once = max(1, 2 * self.max_num_seqs // max((params.get("n", 1) for params in sampling), default=1))
        s = self.settings
        found: list[Any] = asyncio.run(
            self._until_closed(answers(self.servers, s.api_key, s.request_timeout_s, bodies, at_once, s.retries))
        )
        return found

    async def _until_closed(self, work: Coroutine[Any, Any, Any]) -> Any:
        """The result of ``work``, which :meth:`close` in another thread ends."""
        task = asyncio.ensure_future(work)
        self._asking = asyncio.get_running_loop(), task
        if self._closed:
            task.cancel()
        try:
            return await task
        except asyncio.CancelledError:
            raise EngineServerError("the run has ended while servers sampled for it") from None
        finally:
            self._asking = None

    def _check_label(self, choice: Any) -> None:
        """Raises EngineServerError where a token was sampled from other weights than this rank's servers were given."""
        others = {span["version"] for span in choice["weight_versions"] or [{"version": "unknown"}]} - {self._label}
        if others:
            raise EngineServerError(
                f"a server sampled from the weights {', '.join(sorted(others))}, not from {self._label}: it was restarted, or another run "
                "uses it too"
            )

    def _sample(self, choice: Any) -> Sample:
        self._check_label(choice)
        if choice["finish_reason"] not in ("stop", "length"):
            raise EngineServerError(f"a server ended a completion early ({choice['finish_reason']}): another run uses it too")
        logprobs = [entry["logprob"] for entry in choice["logprobs"]["content"]]
        return Sample(choice["token_ids"], logprobs, choice["finish_reason"] == "length", self.version)

    def close(self) -> None:
        """End what this rank's servers were asked for, and those that were started here."""
        self._closed = True
        if asking := self._asking:
            with suppress(RuntimeError):  # it ended in this very moment
                asking[0].call_soon_threadsafe(asking[1].cancel)
        self._end()


def _end(owner: int, servers: list[Server], outbox: Outbox, scratch: Scratch, pusher: Pusher | None) -> None:
    """End what an engine started. Called once, when it is closed, dropped, or the process that made it exits; not by forks of that."""
    if os.getpid() == owner:
        for server in servers:
            if server.process:
                server.process.stop()
        if pusher is not None:
            pusher.close()
        outbox.close()
        scratch.close()
