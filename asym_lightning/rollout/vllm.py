"""The vLLM engine, in process.

Only this file and ``vllm_patches.py`` import vllm for it. With servers, ``serve.py`` runs vLLM's
own server, and ``weight_push.py`` imports its NCCL transfer. All of these imports are within
functions.
"""

import gc
import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from typing import Any

import torch
from torch import Tensor

from asym_lightning.rollout.base import Sample, Sampling
from asym_lightning.rollout.copies import Copies, computes_as_loaded, record
from asym_lightning.rollout.read_back import ReadBack
from asym_lightning.rollout.vllm_patches import (
    before_each_step,
    free_packed_head,
    free_queue_at_exit,
    leave_out_shutdown,
    private_shared_memory,
    repack_experts,
    retie,
    skip_token_ranks,
    undecorated_model_classes,
    unpack_embedding,
)
from asym_lightning.runtime.watch.phases import mark

# Variables that the engine needs, whatever the environment has.
NEEDED = {
    # The engine runs in this process, so that weights pass by reference.
    "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
    # apply_model takes a function, which never leaves this process.
    "VLLM_ALLOW_INSECURE_SERIALIZATION": "1",
}
# Variables that a user's environment may set.
PREFERRED = {
    # Several ranks may share a host.
    "VLLM_CPU_OMP_THREADS_BIND": "nobind",
    "VLLM_NO_USAGE_STATS": "1",
    "VLLM_LOGGING_LEVEL": "ERROR",
    "VLLM_CONFIGURE_LOGGING": "1",
}


@contextmanager
def _launcher_environment() -> Iterator[None]:
    """Set the variables that vLLM's external launcher expects from torchrun.

    Lightning's own launcher sets only some of them.
    """
    rank = torch.distributed.get_rank()
    if torch.cuda.is_available():
        local_rank = torch.cuda.current_device()
    else:
        local_rank = int(os.environ.get("LOCAL_RANK", rank))
    variables = {
        "RANK": str(rank),
        "LOCAL_RANK": str(local_rank),
        "WORLD_SIZE": str(torch.distributed.get_world_size()),
    }
    previous = {key: os.environ.get(key) for key in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for key, value in previous.items():
            if value is None:
                os.environ.pop(key)
            else:
                os.environ[key] = value


class VLLMEngine:
    """One engine per rank on the policy's device, or one per ``tensor_parallel_size`` ranks.

    Neighbouring ranks that share an engine each hold a part of every layer. All of them call
    ``sync`` and ``generate`` equally often, each with its own prompts or with no prompts.

    Args:
        path: folder or hub id of the model that the engine is built from; the first sync replaces
            its weights.
        dtype: precision that the engine computes in, ``float32`` or ``bfloat16``.
        max_model_len: longest prompt plus completion, in tokens.
        max_num_seqs: completions decoded at once.
        kv_cache_gb: size of the key-value cache on CPU.
        gpu_memory_utilization: share of the GPU's memory that the engine may take.
        distributed: several ranks build their engines together.
        tensor_parallel_size: ranks that share an engine.
        sleep: let :meth:`sleep` free the engine's memory until the next sync; otherwise it does
            nothing.
    """

    takes_checkpoints = True

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
        os.environ.update(NEEDED)
        for key, value in PREFERRED.items():
            os.environ.setdefault(key, value)
        os.environ.setdefault("VLLM_CPU_KVCACHE_SPACE", str(kv_cache_gb))
        from vllm import LLM

        self.version = 0
        self._can_sleep, self._asleep = sleep, False
        self._memory_share = gpu_memory_utilization
        options: dict[str, Any] = {}
        if distributed:
            options["distributed_executor_backend"] = "external_launcher"
        on_gpu = torch.cuda.is_available()
        if on_gpu:
            options["gpu_memory_utilization"] = gpu_memory_utilization
            options["enable_sleep_mode"] = sleep
        else:
            skip_token_ranks()
            # A prompt prefilled in chunks rewinds its seeded generator; torch cannot on a CPU.
            options["enable_chunked_prefill"] = False
            options["max_num_batched_tokens"] = max(4096, max_model_len)
        with (
            _launcher_environment() if distributed else nullcontext(),
            private_shared_memory() if distributed and not on_gpu else nullcontext(),
            undecorated_model_classes(),
        ):
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
        # The watchdog sees progress at every engine step.
        before_each_step(self.llm, mark)
        self.llm.apply_model(unpack_embedding)
        self._as_loaded = all(self.llm.apply_model(computes_as_loaded))
        self._copies: Copies | None = None
        # The process group of the ranks that share this engine; None: this rank alone has it.
        self._tp_group: Any = None
        # Ranks that share an engine each hold a part of a weight, which has no whole columns.
        self._read_back: ReadBack | None = None
        if tensor_parallel_size > 1:
            self._join_tp_group()
        else:
            self._read_back = ReadBack(self.llm.llm_engine.model_config.dtype)

    def _join_tp_group(self) -> None:
        from vllm.distributed.parallel_state import get_tp_group

        group: Any = get_tp_group()
        self._tp_group = group.cpu_group
        free_queue_at_exit(group)

    def sync(self, weights: Iterable[tuple[str, Tensor]], version: int) -> None:
        if self._asleep:
            # The engine needs the memory that the policy's allocator keeps cached.
            torch.cuda.empty_cache()
            # Woken weights hold arbitrary values until they are loaded. The cache is woken after
            # that: before, it would take its memory too early.
            self._wake("weights")
        if self._read_back is None:
            self._load(weights)
        else:
            self.llm.apply_model(self._read_back.begin)
            self._load(self._read_back.watched(weights))
            self.llm.apply_model(self._read_back.check)
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
            self.llm.apply_model(free_packed_head)
            self.llm.apply_model(repack_experts)
            self.llm.collective_rpc("reload_weights", kwargs={"weights_iterator": iter(weights)})
            self.llm.apply_model(retie)

    def _wake(self, tag: str) -> None:
        """Allocate the engine's ``weights`` or ``kv_cache`` again.

        Raises:
            RuntimeError: the policy leaves too little memory for it.
        """
        try:
            self.llm.wake_up(tags=[tag])
        except RuntimeError as error:
            if "out of memory" not in str(error):
                raise
            raise RuntimeError(
                f"the engine cannot wake: there is no memory for its {tag} beside the policy, its "
                "gradients and its optimizer state; "
                f"rollout.gpu_memory_utilization={self._memory_share:g} is too much, lower it"
            ) from None

    def generate(
        self, prompts: Sequence[Sequence[int]], sampling: Sampling, seeds: Sequence[int]
    ) -> list[list[Sample]]:
        from vllm import SamplingParams

        all_prompts, all_seeds, own_slice = self._gather_requests(prompts, seeds)
        if not all_prompts:
            return []
        params = [
            SamplingParams(
                n=sampling.n,
                temperature=sampling.temperature,
                max_tokens=sampling.max_tokens,
                stop_token_ids=list(sampling.stop_ids),
                # stop_ids hold every end token; vLLM would add those of the folder's tokenizer
                # and config.
                ignore_eos=True,
                logprobs=0,
                detokenize=False,
                seed=seed,
            )
            for seed in all_seeds
        ]
        inputs: Any = [{"prompt_token_ids": list(ids)} for ids in all_prompts]
        rows = []
        for request in self.llm.generate(inputs, params, use_tqdm=False)[own_slice]:
            outputs = sorted(request.outputs, key=lambda output: output.index)
            rows.append([_sample(output, self.version) for output in outputs])
        return rows

    def _gather_requests(
        self, prompts: Sequence[Sequence[int]], seeds: Sequence[int]
    ) -> tuple[list[Sequence[int]], list[int], slice]:
        """The prompts and seeds of all ranks that share this engine, and this rank's slice of them.

        They are in the order of the ranks: each rank must hand vLLM the same requests.
        """
        if self._tp_group is None:
            return list(prompts), list(seeds), slice(None)
        parts: list[Any] = [None] * self._tp_group.size()
        torch.distributed.all_gather_object(
            parts, (list(prompts), list(seeds)), group=self._tp_group
        )
        all_prompts = [ids for part_prompts, _ in parts for ids in part_prompts]
        all_seeds = [seed for _, part_seeds in parts for seed in part_seeds]
        start = sum(len(part_prompts) for part_prompts, _ in parts[: self._tp_group.rank()])
        return all_prompts, all_seeds, slice(start, start + len(prompts))

    def sleep(self) -> bool:
        """Drop weights and KV cache until the next sync.

        Returns whether the engine can sleep: it was built with vLLM's sleep mode.
        """
        if self._can_sleep and not self._asleep:
            self.llm.sleep(level=2)
            self._asleep = True
        return self._can_sleep

    def close(self) -> None:
        """Free the engine.

        vLLM keeps its objects from the garbage collector until its own shutdown, which must not run
        here.
        """
        leave_out_shutdown(self.llm)
        del self.llm
        gc.unfreeze()
        gc.collect()


def _sample(output: Any, version: int) -> Sample:
    ids = list(output.token_ids)
    logprobs = [entry[token].logprob for token, entry in zip(ids, output.logprobs, strict=True)]
    return Sample(ids, logprobs, truncated=output.finish_reason == "length", version=version)
