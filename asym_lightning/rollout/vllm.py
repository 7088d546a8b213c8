"""The vLLM engine, in process. The only file that imports vllm."""

import atexit
import gc
import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any
from uuid import uuid4

import torch
from torch import Tensor

from asym_lightning.rollout.base import Sample, Sampling
from asym_lightning.rollout.copies import Copies, computes_as_loaded, record
from asym_lightning.runtime.watch.phases import mark

ENVIRONMENT = {
    "VLLM_ENABLE_V1_MULTIPROCESSING": "0",  # engine in this process: weights pass by reference
    "VLLM_CPU_OMP_THREADS_BIND": "nobind",  # several ranks may share a host
    "VLLM_NO_USAGE_STATS": "1",
    "VLLM_LOGGING_LEVEL": "ERROR",
    "VLLM_CONFIGURE_LOGGING": "1",
    "VLLM_ALLOW_INSECURE_SERIALIZATION": "1",  # apply_model takes a function; it never leaves this process
}


def _ends(model: torch.nn.Module) -> tuple[Any, Any]:
    """The embedding and the output head."""
    return getattr(getattr(model, "model", None), "embed_tokens", None), getattr(model, "lm_head", None)


def _pack_head_alone(model: torch.nn.Module) -> None:
    """A CPU build keeps a packed copy of every matrix for its products. The embedding has none: its copy, which every reload would make
    anew, is used by nobody, unless it is the output head itself."""
    embedding, head = _ends(model)
    if embedding is not None and embedding is not head and hasattr(embedding, "cpu_linear"):
        embedding.cpu_linear = None
        embedding.quant_method.process_weights_after_loading = lambda layer: None


def _drop_packed_head(model: torch.nn.Module) -> None:
    """Free the packed output head before there is a new one."""
    embedding, head = _ends(model)
    if embedding is not None and head is not None and embedding is not head and hasattr(head, "cpu_linear"):
        head.cpu_linear = None


def retie(model: torch.nn.Module) -> None:
    """Give a tied output head the embedding's new weights: a CPU build keeps a prepacked copy that a reload leaves stale."""
    embedding, head = _ends(model)
    config: Any = getattr(model, "config", None)
    if head is None or embedding is None or not getattr(config, "tie_word_embeddings", False):
        return
    head.weight = embedding.weight
    head.quant_method.process_weights_after_loading(head)


def _no_ranks() -> None:
    """vLLM counts every sampled token's rank in the distribution, which nobody here reads, with a function that it compiles: on a CPU the
    first token of every process waits seconds for the C++ compiler, and longer where nothing is cached. Leave all ranks 0."""
    from vllm.v1.sample import sampler

    sampler.batched_count_greater_than = lambda x, values: x.new_zeros(len(x), dtype=torch.int64)


@contextmanager
def _own_shared_memory() -> Iterator[None]:
    """Give the shared memory in which the ranks of an engine meet on a CPU a name of this run's own, and take the name away once all of
    them have it.

    vLLM makes these names of the ranks' numbers alone. Two runs on one machine would meet each other, and the segment that a killed
    run has left would stop the next one ("create shm in SHMManager failed").
    """
    from vllm.distributed.device_communicators import cpu_communicator

    token, names = [uuid4().hex[:12]], []
    torch.distributed.broadcast_object_list(token)
    manager = cpu_communicator._CPUSHMDistributed
    of_vllm = manager.make_group_name

    def group_name(communicator: Any) -> str:
        name = f"{of_vllm(communicator)}-{token[0]}"
        names.append(f"{name.lstrip('/')}_{communicator.rank}")
        return name

    manager.make_group_name = staticmethod(group_name)
    try:
        yield
        torch.distributed.barrier()
    finally:
        manager.make_group_name = staticmethod(of_vllm)
        for name in names:
            (Path("/dev/shm") / name).unlink(missing_ok=True)


@contextmanager
def _launcher_environment() -> Iterator[None]:
    """What torchrun would have set, and vLLM's external launcher reads; Lightning's own launcher sets only a part of it."""
    rank = torch.distributed.get_rank()
    local = torch.cuda.current_device() if torch.cuda.is_available() else int(os.environ.get("LOCAL_RANK", rank))
    given = {"RANK": str(rank), "LOCAL_RANK": str(local), "WORLD_SIZE": str(torch.distributed.get_world_size())}
    before = {key: os.environ.get(key) for key in given}
    os.environ.update(given)
    try:
        yield
    finally:
        for key, value in before.items():
            if value is None:
                os.environ.pop(key)
            else:
                os.environ[key] = value


class VLLMEngine:
    """One engine per rank on the same device as the policy, or one that ``tensor_parallel_size`` neighbouring ranks share: every one of
    them holds a part of each layer, and all call ``sync`` and ``generate`` equally often, each with its own prompts, or none.

    Args:
        path: folder or hub id of the model that the engine is built from; its weights are replaced by the first sync.
        dtype: what the engine computes in, ``float32`` or ``bfloat16``.
        max_model_len: longest prompt plus completion, in tokens.
        max_num_seqs: completions decoded at once.
        kv_cache_gb: size of the key-value cache on CPU.
        gpu_memory_utilization: share of the GPU's memory that the engine may take.
        distributed: several ranks build their engines together.
        tensor_parallel_size: ranks that share an engine.
        sleep: ``sleep`` gives the engine's memory to others until the next sync, instead of doing nothing.
    """

    def __init__(
        self,
        path: str,
        dtype: Any,
        max_model_len: int,
        max_num_seqs: int,
        kv_cache_gb: int = 1,
        gpu_memory_utilization: float = 0.4,
        enforce_eager: bool = True,
        trust_remote_code: bool = False,
        distributed: bool = False,
        tensor_parallel_size: int = 1,
        sleep: bool = False,
        seed: int = 0,
    ):
        for key, value in ENVIRONMENT.items():
            os.environ.setdefault(key, value)
        os.environ.setdefault("VLLM_CPU_KVCACHE_SPACE", str(kv_cache_gb))
        from vllm import LLM

        options: dict[str, Any] = {"distributed_executor_backend": "external_launcher"} if distributed else {}
        if torch.cuda.is_available():
            options |= {"gpu_memory_utilization": gpu_memory_utilization, "enable_sleep_mode": sleep}
        else:
            _no_ranks()
            # a prompt prefilled in parts rewinds its seeded generator, which torch has no way of on a CPU
            options |= {"enable_chunked_prefill": False, "max_num_batched_tokens": max(4096, max_model_len)}
        self.version, self._sleeps, self._asleep, self._share = 0, sleep, False, gpu_memory_utilization
        on_cpu = distributed and not torch.cuda.is_available()
        with _launcher_environment() if distributed else nullcontext(), _own_shared_memory() if on_cpu else nullcontext():
            self.llm = LLM(
                model=path,
                dtype=dtype,
                max_model_len=max_model_len,
                max_num_seqs=max_num_seqs,
                enforce_eager=enforce_eager,
                trust_remote_code=trust_remote_code,
                logprobs_mode="processed_logprobs",
                tensor_parallel_size=tensor_parallel_size,
                seed=seed,
                use_tqdm_on_load=False,
                **options,
            )
        step = self.llm.llm_engine.step

        def marked() -> Any:
            mark()
            return step()

        self.llm.llm_engine.step = marked  # type: ignore[method-assign]
        self.llm.apply_model(_pack_head_alone)
        self._as_loaded = all(self.llm.apply_model(computes_as_loaded))
        self._copies: Copies | None = None
        self._sharers: Any = None  # the process group of the ranks of this engine, where it is not this rank's alone
        if tensor_parallel_size > 1:
            from vllm.distributed.parallel_state import get_tp_group

            group: Any = get_tp_group()
            self._sharers = group.cpu_group
            atexit.register(setattr, group, "mq_broadcaster", None)  # else its shared memory is left, and Python says so

    def sync(self, weights: Iterable[tuple[str, Tensor]], version: int) -> None:
        if self._asleep:
            torch.cuda.empty_cache()  # what the policy's allocator keeps unused is memory that the engine needs now
            self._wake("weights")  # they hold anything now; the cache would need its memory too early
        self._load(weights)
        if self._asleep:
            self._wake("kv_cache")
            self._asleep = False
        self.llm.reset_prefix_cache()
        self.version = version

    def _load(self, weights: Iterable[tuple[str, Tensor]]) -> None:
        copies = self._copies
        if copies is not None:
            self.llm.apply_model(lambda model: copies.apply(weights))
        elif self._as_loaded:
            [self._copies] = self.llm.apply_model(lambda model: record(model, weights))
            self._as_loaded = self._copies is not None
        else:
            self.llm.apply_model(_drop_packed_head)
            self.llm.collective_rpc("reload_weights", kwargs={"weights_iterator": iter(weights)})
            self.llm.apply_model(retie)

    def _wake(self, what: str) -> None:
        """Give the engine the memory for its ``weights`` or ``kv_cache`` back.

        Raises:
            RuntimeError: the policy has left too little of it.
        """
        try:
            self.llm.wake_up(tags=[what])
        except RuntimeError as error:
            if "out of memory" not in str(error):
                raise
            raise RuntimeError(
                f"the engine cannot wake: there is no memory for its {what} beside the policy, its gradients and its optimizer state; "
                f"rollout.gpu_memory_utilization={self._share:g} is too much, lower it"
            ) from None

    def generate(self, prompts: Sequence[Sequence[int]], sampling: Sampling, seeds: Sequence[int]) -> list[list[Sample]]:
        from vllm import SamplingParams

        prompts, seeds, mine = self._shared(prompts, seeds)
        if not prompts:
            return []
        params = [
            SamplingParams(
                n=sampling.n,
                temperature=sampling.temperature,
                max_tokens=sampling.max_tokens,
                stop_token_ids=list(sampling.stop_ids),
                ignore_eos=True,  # the stop ids hold every end token; vLLM would add those of the folder's tokenizer and config
                logprobs=0,
                detokenize=False,
                seed=seed,
            )
            for seed in seeds
        ]
        inputs: Any = [{"prompt_token_ids": list(ids)} for ids in prompts]
        return [
            [_sample(output, self.version) for output in sorted(request.outputs, key=lambda o: o.index)]
            for request in self.llm.generate(inputs, params, use_tqdm=False)[mine]
        ]

    def _shared(self, prompts: Sequence[Sequence[int]], seeds: Sequence[int]) -> tuple[list[Sequence[int]], list[int], slice]:
        """The requests of all ranks of this engine, in the order of the ranks, since each has to hand vLLM the same, and where among
        them those of this rank are."""
        if self._sharers is None:
            return list(prompts), list(seeds), slice(None)
        parts: list[Any] = [None] * self._sharers.size()
        torch.distributed.all_gather_object(parts, (list(prompts), list(seeds)), group=self._sharers)
        before = sum(len(ids) for ids, _ in parts[: self._sharers.rank()])
        together = [[one for part in parts for one in part[i]] for i in range(2)]
        return together[0], together[1], slice(before, before + len(prompts))

    def sleep(self) -> bool:
        """Drop weights and cache until the next sync; False where this was not asked for."""
        if self._sleeps and not self._asleep:
            self.llm.sleep(level=2)
            self._asleep = True
        return self._sleeps

    def close(self) -> None:
        """Free the engine. vLLM keeps its objects from the collector until a shutdown of its own, which would end the process groups of
        the trainer and of other engines too, so that it must not run when the engine is collected either."""
        finalizer = getattr(self.llm.llm_engine.engine_core, "_finalizer", None)
        if finalizer is not None:
            finalizer.detach()
        del self.llm
        gc.unfreeze()
        gc.collect()


def _sample(output: Any, version: int) -> Sample:
    ids = list(output.token_ids)
    logprobs = [entry[token].logprob for token, entry in zip(ids, output.logprobs, strict=True)]
    return Sample(ids, logprobs, output.finish_reason == "length", version)
