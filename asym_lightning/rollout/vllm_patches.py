"""The patches of vLLM and its private names, for the engine in process and the servers."""

import atexit
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

import torch


def skip_token_ranks() -> None:
    """Leave the rank of every sampled token in its distribution at 0.

    Needed on a CPU: nobody here reads the ranks, and vLLM counts them with a compiled function, so
    the first token of every process would wait seconds for the C++ compiler, and longer where
    nothing is cached.

    Upstream: https://github.com/vllm-project/vllm/pull/38933
    Versions: vllm==0.32.0 (tried with 0.32.0)
    """
    from vllm.v1.sample import sampler

    sampler.batched_count_greater_than = lambda x, values: x.new_zeros(len(x), dtype=torch.int64)


@contextmanager
def private_shared_memory() -> Iterator[None]:
    """Name the shared memory of an engine's ranks after this run, and unlink it once all have it.

    Needed on a CPU: vLLM derives these names from rank numbers alone, so two runs on one machine
    would share a segment, and the segment of a killed run would stop the next run ("create shm in
    SHMManager failed").

    Upstream: https://github.com/vllm-project/vllm/pull/32429 (another segment)
    Versions: vllm==0.32.0 (tried with 0.32.0)
    """
    from vllm.distributed.device_communicators import cpu_communicator

    token, names = [uuid4().hex[:12]], []
    torch.distributed.broadcast_object_list(token)
    manager = cpu_communicator._CPUSHMDistributed
    original = manager.make_group_name

    def group_name(communicator: Any) -> str:
        name = f"{original(communicator)}-{token[0]}"
        names.append(f"{name.lstrip('/')}_{communicator.rank}")
        return name

    manager.make_group_name = staticmethod(group_name)
    try:
        yield
        torch.distributed.barrier()
    finally:
        manager.make_group_name = staticmethod(original)
        for name in names:
            (Path("/dev/shm") / name).unlink(missing_ok=True)


def embedding_and_head(model: torch.nn.Module) -> tuple[Any, Any]:
    """Return the embedding and the output head of a vLLM model, by any name.

    None for a part that the model does not have; without a head the embedding serves as one.
    Needed by the patches below: vLLM's models have no accessors for them.

    Upstream: no issue found
    Versions: vllm==0.32.0 (tried with 0.32.0)
    """
    kinds = {m: {kind.__name__ for kind in type(m).__mro__} for m in model.modules()}
    head = next((m for m in kinds if "ParallelLMHead" in kinds[m]), None)
    embeddings = [m for m in kinds if "VocabParallelEmbedding" in kinds[m] and m is not head]
    if head is not None:
        # A model may have further embeddings, such as one per layer.
        embeddings = [m for m in embeddings if m.weight.shape == head.weight.shape]
    return next(iter(embeddings), None), head


def unpack_embedding(model: torch.nn.Module) -> None:
    """Drop the embedding's packed copy, unless the embedding is the output head itself.

    Needed on a CPU: vLLM packs a copy of every matrix for matrix products; the embedding is only
    looked up, so its copy is never used, and every reload would make it again.

    Upstream: no issue found
    Versions: vllm==0.32.0 (tried with 0.32.0)
    """
    embedding, head = embedding_and_head(model)
    if embedding is not None and head is not None and hasattr(embedding, "cpu_linear"):
        embedding.cpu_linear = None
        embedding.quant_method.process_weights_after_loading = lambda layer: None


def free_packed_head(model: torch.nn.Module) -> None:
    """Free the output head's packed copy.

    Needed on a CPU before a reload: the old and the new copy would be in memory together.

    Upstream: no issue found
    Versions: vllm==0.32.0 (tried with 0.32.0)
    """
    embedding, head = embedding_and_head(model)
    if embedding is None or head is None:
        return
    if hasattr(head, "cpu_linear"):
        head.cpu_linear = None


def retie(model: torch.nn.Module) -> None:
    """Give a tied output head the embedding's new weights.

    Needed on a CPU after a reload: it leaves the head's packed copy with the old weights.

    Upstream: https://github.com/vllm-project/vllm/issues/48312
    Versions: vllm==0.32.0 (tried with 0.32.0)
    """
    embedding, head = embedding_and_head(model)
    config: Any = getattr(model, "config", None)
    if head is None or embedding is None or not getattr(config, "tie_word_embeddings", False):
        return
    head.weight = embedding.weight
    head.quant_method.process_weights_after_loading(head)


def repack_experts(model: torch.nn.Module) -> None:
    """Let the next reload pack experts for their kernel again.

    Needed on a CPU before a reload: vLLM packs them with the kernel's construction, which happens
    once, so that a reload would leave weights as in the file where the kernel expects packed ones.

    Upstream: no issue found
    Versions: vllm==0.32.0 (tried with 0.32.0)
    """
    if any(parameter.is_cuda for parameter in model.parameters()):
        return
    for module in model.modules():
        method: Any = getattr(module, "quant_method", None)
        if getattr(method, "moe_kernel", None) is not None:
            method.moe_kernel = None


def before_each_step(llm: Any, call: Callable[[], None]) -> None:
    """Call a function before each step of the engine.

    Needed by the watchdog: ``generate`` takes no callback, and returns only after all steps.

    Upstream: no issue found
    Versions: vllm==0.32.0 (tried with 0.32.0)
    """
    step = llm.llm_engine.step

    def observed_step() -> Any:
        call()
        return step()

    llm.llm_engine.step = observed_step


def leave_out_shutdown(llm: Any) -> None:
    """Let an engine be collected without vLLM's shutdown.

    Needed since the shutdown would end the process groups of the trainer and of other engines too.

    Upstream: https://github.com/vllm-project/vllm/pull/46023
    Versions: vllm==0.32.0 (tried with 0.32.0)
    """
    llm.llm_engine.engine_core._finalizer.detach()


def free_queue_at_exit(group: Any) -> None:
    """Free a group's message queue when the process exits.

    Needed since its shared memory would be left, and Python would warn of that.

    Upstream: https://github.com/vllm-project/vllm/issues/8933
    Versions: vllm==0.32.0 (tried with 0.32.0)
    """
    atexit.register(setattr, group, "mq_broadcaster", None)


@contextmanager
def undecorated_model_classes() -> Iterator[None]:
    """Keep vLLM from decorating transformers' own model classes while an engine is built.

    Needed for models that vLLM runs through its transformers backend: it decorates the class itself
    for torch.compile, and the trainer's model, of the same class in the same process, would then
    call vLLM's code. The engine computes such a model without torch.compile.

    Upstream: no issue found
    Versions: vllm==0.32.0 (tried with 0.32.0)
    """
    from vllm.model_executor.models.transformers.base import Base

    original = Base._decorate_cls_for_torch_compile
    Base._decorate_cls_for_torch_compile = lambda self, *args, **kwargs: None
    try:
        yield
    finally:
        Base._decorate_cls_for_torch_compile = original
