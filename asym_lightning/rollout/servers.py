"""Rollouts by vLLM servers, which are processes of their own (rollout=servers)."""

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
from asym_lightning.rollout.server_client import (
    Client,
    EngineServerError,
    Server,
    answers,
    connected,
    together,
)
from asym_lightning.rollout.server_control import (
    Needs,
    take_weights,
    unless_dead,
    wait_until_ready,
)
from asym_lightning.rollout.server_process import ServerProcess, gpu_for
from asym_lightning.rollout.server_settings import ServerSettings
from asym_lightning.rollout.weight_folder import Outbox, Scratch
from asym_lightning.rollout.weight_push import TRANSPORTS, Pusher
from asym_lightning.runtime.ranks import broadcast_text, reduce_over_ranks


class ServerEngine:
    """The servers of one rank; they may work while the policy learns.

    ``publish`` is for the main thread, with all ranks in step. The other methods exchange nothing
    with other ranks and may be called from another thread.

    Args:
        path: folder or hub id of the model that servers start from; the first sync replaces its
            weights.
        dtype: precision that the servers compute in, ``float32`` or ``bfloat16``.
        max_model_len: longest prompt plus completion, in tokens.
        max_num_seqs: completions decoded at once by one server.
        settings: which servers, and how long to wait for them.
        logs: folder for the servers' output.
        options: further options of vLLM for the servers that are started.
        kv_cache_gb: size of a started server's key-value cache on CPU.
        rank, world: rank of this process, and number of processes that train.
        machines: number of machines; each has equally many ranks.

    Raises:
        EngineServerError: a server does not start, or does not fit the run.
    """

    takes_checkpoints = True

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
        weight_dtype = getattr(torch, dtype)
        self._pusher: Pusher | None = None
        if settings.transfer != "folder":
            self._pusher = Pusher(TRANSPORTS[settings.transfer](), weight_dtype)
        folder = Path(settings.folder or self._scratch.path).resolve()
        shared = folder / f"weights-{self._scratch.path.name}"
        reuse = settings.folder is None
        self._outbox = Outbox(Path(broadcast_text(str(shared))), rank, weight_dtype, reuse=reuse)
        self.servers: list[Server] = []
        self._closed = False
        self._asking: tuple[asyncio.AbstractEventLoop, asyncio.Future[Any]] | None = None
        self._end = weakref.finalize(
            self, _end, os.getpid(), self.servers, self._outbox, self._scratch, self._pusher
        )
        sizes = [f"--max-model-len={max_model_len}", f"--max-num-seqs={max_num_seqs}"]
        arguments = [path, f"--dtype={dtype}", *sizes, *options]
        environment = {"VLLM_CPU_KVCACHE_SPACE": str(kv_cache_gb)}
        try:
            for n, number in enumerate(settings.own(rank, world)):
                if settings.urls:
                    self.servers.append(Server(settings.urls[number].rstrip("/")))
                    continue
                gpu = gpu_for(self._gpu_index(n, rank, world // machines))
                log = logs / f"{number}.log"
                self.servers.append(self._start(arguments, environment | gpu, log))
            needs = Needs(dtype, max_model_len, settings.transfer)
            ready = partial(wait_until_ready, needs=needs, timeout_s=settings.start_timeout_s)
            asyncio.run(self._on_all(ready))
        except BaseException:
            self.close()
            raise

    def _gpu_index(self, n: int, rank: int, local_ranks: int) -> int:
        """The GPU of a rank's n-th server, among those of its machine.

        With transfer ``ipc`` the server shares the GPU of its rank; otherwise it has a GPU after
        those of the machine's ranks.
        """
        local_rank = rank % local_ranks
        return local_rank if self.settings.transfer == "ipc" else local_ranks * (1 + n) + local_rank

    def _start(self, arguments: Sequence[str], environment: dict[str, str], log: Path) -> Server:
        socket = self._scratch.path / f"{log.stem}.sock"
        if self.settings.transfer != "folder":
            arguments = [*arguments, "--weight-transfer", self.settings.transfer]
        process = ServerProcess([*arguments, "--uds", str(socket)], environment, log)
        return Server(f"unix:{socket}", socket, process)

    async def _on_all(self, work: Callable[[Client], Coroutine[Any, Any, None]]) -> None:
        """Do ``work`` with every server that is not dead."""
        async with self._connected() as clients:
            await together([work(client) for client in clients])

    def _connected(self) -> AbstractAsyncContextManager[list[Client]]:
        return connected(self.servers, self.settings.api_key, self.settings.request_timeout_s)

    @property
    def idle_publish(self) -> bool:
        """Whether servers take weights while these are published, so must get no requests then."""
        return self._pusher is not None

    def publish(self, weights: Iterable[tuple[str, Tensor]], version: int) -> None:
        """Put weights where the servers can get them, or into the servers; all ranks in step.

        Raises:
            EngineServerError: a server of some rank did not take them.
        """
        if self._pusher is None:
            return self._outbox.publish(weights, version)
        self._pushes += 1
        label = f"{self._scratch.path.name}-{self._pushes}-v{version}"
        tensors = iter(weights)
        failure = ""
        try:
            asyncio.run(self._push(self._pusher, tensors, label))
        except EngineServerError as error:
            failure = str(error)
        # Use up the weights after a failure too: all ranks gather shards in step.
        for _ in tensors:
            pass
        if int(reduce_over_ranks(torch.tensor(bool(failure)).long(), "max")):
            raise EngineServerError(
                failure or "a server of another rank did not take new weights; that rank says which"
            )
        self.version, self._label = version, label

    async def _push(
        self, pusher: Pusher, tensors: Iterator[tuple[str, Tensor]], label: str
    ) -> None:
        async with self._connected() as clients:
            await pusher.push(clients, tensors, label)

    def load(self, version: int) -> None:
        """Have this rank's servers take the weights that were published last as ``version``.

        Raises:
            EngineServerError: a server says that it holds other weights, or all servers are dead.
        """
        if self._pusher is not None:
            if version != self.version:
                raise EngineServerError(
                    f"the servers hold the weights of iteration {self.version}, not of {version}"
                )
            return
        number, folder = self._outbox.find(version)
        if number == self._loaded:
            return

        async def load(client: Client) -> None:
            await unless_dead(client, take_weights(client, folder))

        asyncio.run(self._on_all(load))
        self.version, self._label, self._loaded = version, folder.name, number
        self._outbox.taken = number

    def sync(self, weights: Iterable[tuple[str, Tensor]], version: int) -> None:
        self.publish(weights, version)
        self.load(version)

    def generate(
        self, prompts: Sequence[Sequence[int]], sampling: Sampling, seeds: Sequence[int]
    ) -> list[list[Sample]]:
        common = {
            "n": sampling.n,
            "temperature": sampling.temperature,
            "max_tokens": sampling.max_tokens,
            "stop_token_ids": list(sampling.stop_ids),
            # stop_ids hold every end token; a server would add those of its own model's tokenizer
            # and config.
            "ignore_eos": True,
            "logprobs": 0,
            "detokenize": False,
        }
        responses = self._ask(prompts, [common | {"seed": seed} for seed in seeds])
        rows = []
        for response in responses:
            choices = sorted(response["choices"], key=itemgetter("index"))
            rows.append([self._sample(choice) for choice in choices])
        return rows

    def prompt_logprobs(self, prompts: Sequence[Sequence[int]]) -> list[list[float]]:
        """Log-prob (nats, at temperature 1) of each token of each prompt but its first."""
        params = {
            "max_tokens": 1,
            "temperature": 0.0,
            "prompt_logprobs": 0,
            "detokenize": False,
            "logprobs": 0,
        }
        responses = self._ask(prompts, [params] * len(prompts))
        for response in responses:
            self._check_label(response["choices"][0])
        rows = []
        for prompt, response in zip(prompts, responses, strict=True):
            entries = zip(prompt[1:], response["prompt_logprobs"][1:], strict=True)
            rows.append([entry[str(token)]["logprob"] for token, entry in entries])
        return rows

    def _ask(
        self, prompts: Sequence[Sequence[int]], sampling: Sequence[dict[str, Any]]
    ) -> list[Any]:
        """The servers' answers to prompts, each with its own sampling parameters."""
        if not self._label:
            raise EngineServerError(
                "no weights were synced: the servers hold other weights than the policy's"
            )
        bodies = [
            {"token_ids": list(ids), "sampling_params": params}
            for ids, params in zip(prompts, sampling, strict=True)
        ]
        samples_per_prompt = max((params.get("n", 1) for params in sampling), default=1)
        work = answers(
            self.servers,
            self.settings.api_key,
            self.settings.request_timeout_s,
            bodies=bodies,
            at_once=max(1, 2 * self.max_num_seqs // samples_per_prompt),
            retries=self.settings.retries,
        )
        responses: list[Any] = asyncio.run(self._until_closed(work))
        return responses

    async def _until_closed(self, work: Coroutine[Any, Any, Any]) -> Any:
        """The result of ``work``, unless :meth:`close` in another thread ends it."""
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
        """Raise EngineServerError if a token was sampled from weights of another label."""
        spans = choice["weight_versions"] or [{"version": "unknown"}]
        other_labels = {span["version"] for span in spans} - {self._label}
        if other_labels:
            raise EngineServerError(
                f"a server sampled from the weights {', '.join(sorted(other_labels))}, not from "
                f"{self._label}: it was restarted, or another run uses it too"
            )

    def _sample(self, choice: Any) -> Sample:
        self._check_label(choice)
        reason = choice["finish_reason"]
        if reason not in ("stop", "length"):
            raise EngineServerError(
                f"a server ended a completion early ({reason}): another run uses it too"
            )
        logprobs = [entry["logprob"] for entry in choice["logprobs"]["content"]]
        return Sample(
            choice["token_ids"], logprobs, truncated=reason == "length", version=self.version
        )

    def close(self) -> None:
        """Cancel this rank's requests to its servers, and end the servers that it started."""
        self._closed = True
        if asking := self._asking:
            # RuntimeError: the loop has ended in this very moment.
            with suppress(RuntimeError):
                asking[0].call_soon_threadsafe(asking[1].cancel)
        self._end()


def _end(
    owner: int, servers: list[Server], outbox: Outbox, scratch: Scratch, pusher: Pusher | None
) -> None:
    """End the processes and remove the files of an engine.

    Runs once: when the engine is closed or dropped, or when the process ``owner`` that built it
    exits. Forks of that process do nothing here.
    """
    if os.getpid() == owner:
        for server in servers:
            if server.process:
                server.process.stop()
        if pusher is not None:
            pusher.close()
        outbox.close()
        scratch.close()
