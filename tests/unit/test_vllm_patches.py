"""The patches of vLLM work with the installed version."""

import gc
import inspect
import weakref
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn

from asym_lightning.rollout import vllm_patches
from tests.support.ranks import one_rank

pytest.importorskip("vllm", reason="vLLM is not installed")


def test_skip_token_ranks_leaves_them_at_zero_without_a_compiler(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from vllm.v1.sample import sampler

    original = sampler.batched_count_greater_than
    assert list(inspect.signature(original).parameters) == ["x", "values"]
    monkeypatch.setattr(sampler, "batched_count_greater_than", original)
    vllm_patches.skip_token_ranks()
    logprobs = torch.randn(3, 5).log_softmax(-1)
    gathered = sampler.Sampler.gather_logprobs(logprobs, 0, torch.tensor([4, 0, 2]))
    assert gathered.selected_token_ranks.tolist() == [0, 0, 0]
    assert gathered.logprobs[:, 0].tolist() == logprobs[range(3), [4, 0, 2]].tolist()


def test_private_shared_memory_has_names_of_this_run_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    from vllm.distributed.device_communicators import cpu_communicator

    monkeypatch.setenv("VLLM_DIST_IDENT", "test")
    group: Any = SimpleNamespace(unique_name="tp:0", ranks=[0, 1], rank=1)
    manager = cpu_communicator._CPUSHMDistributed
    before, within = manager.make_group_name(group), []
    for _ in range(2):
        with one_rank(), vllm_patches.private_shared_memory():
            within.append(manager.make_group_name(group))
            segment = Path("/dev/shm") / f"{within[-1]}_1"
            segment.touch()
        assert not segment.exists()
    assert manager.make_group_name(group) == before
    assert len({before, *within}) == 3 and all(name.startswith(before) for name in within)
    assert "init_shm_manager" in inspect.getsource(manager._init_cpu_shm)
    assert "self.group_name = self.make_group_name(" in inspect.getsource(manager.__init__)


class VocabParallelEmbedding(nn.Embedding):
    """vLLM's class of this name."""


class ParallelLMHead(nn.Linear):
    """vLLM's class of this name."""


class Model(nn.Module):
    """A vLLM model's embedding and head, each with a packed copy of its weights."""

    def __init__(self, tied: bool) -> None:
        super().__init__()
        self.model, self.lm_head = nn.Module(), ParallelLMHead(2, 3, bias=False)
        self.model.wte = VocabParallelEmbedding(3, 2)
        self.config = SimpleNamespace(tie_word_embeddings=tied)
        self.packed: list[nn.Module] = []
        method = SimpleNamespace(process_weights_after_loading=self.packed.append)
        for part in (self.model.wte, self.lm_head):
            part.quant_method = SimpleNamespace(**vars(method))  # type: ignore[assignment]
            part.cpu_linear = torch.nn.functional.linear


def test_packed_copies_are_dropped_and_made_anew() -> None:
    model = Model(tied=True)
    embedding, head = vllm_patches.embedding_and_head(model)
    assert embedding is model.model.wte and head is model.lm_head
    assert vllm_patches.embedding_and_head(nn.Linear(2, 2)) == (None, None)
    vllm_patches.unpack_embedding(model)
    assert embedding.cpu_linear is None
    embedding.quant_method.process_weights_after_loading(embedding)
    assert model.packed == [], "a reload packs the embedding no more"
    vllm_patches.free_packed_head(model)
    assert head.cpu_linear is None
    vllm_patches.retie(model)
    assert head.weight is embedding.weight and model.packed == [head]
    untied = Model(tied=False)
    vllm_patches.retie(untied)
    assert untied.lm_head.weight is not untied.model.wte.weight and not untied.packed


def test_repack_experts_lets_the_next_reload_pack_them() -> None:
    from vllm.model_executor.layers.fused_moe.unquantized_fused_moe_method import (
        UnquantizedFusedMoEMethod,
    )

    setup = inspect.getsource(UnquantizedFusedMoEMethod._setup_kernel)
    assert "is_weight_update = self.moe_kernel is not None" in setup
    assert "if not is_weight_update:" in setup and "process_weights_after_loading(layer)" in setup
    model = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    model[0].quant_method = SimpleNamespace(moe_kernel=object())
    model[1].quant_method = SimpleNamespace()
    vllm_patches.repack_experts(model)
    assert model[0].quant_method.moe_kernel is None  # type: ignore[union-attr]
    assert not hasattr(model[1].quant_method, "moe_kernel")


def test_a_layer_of_vllm_computes_with_its_packed_copy() -> None:
    from vllm.model_executor.layers import linear, utils, vocab_parallel_embedding

    layer: Any = SimpleNamespace(cpu_linear=lambda x, weight, bias: x + 1)
    assert float(utils.cpu_unquantized_gemm(layer, torch.zeros(1), torch.zeros(1))) == 1
    kinds = linear.UnquantizedLinearMethod, vocab_parallel_embedding.UnquantizedEmbeddingMethod
    for kind in kinds:
        parameters = inspect.signature(kind.process_weights_after_loading).parameters
        assert list(parameters) == ["self", "layer"]


def test_before_each_step_calls_a_function_at_every_step_of_the_engine() -> None:
    from vllm.v1.engine.llm_engine import LLMEngine

    assert list(inspect.signature(LLMEngine.step).parameters) == ["self"]
    seen: list[str] = []
    llm = SimpleNamespace(llm_engine=SimpleNamespace(step=lambda: seen.append("step")))
    vllm_patches.before_each_step(llm, lambda: seen.append("call"))
    llm.llm_engine.step()
    llm.llm_engine.step()
    assert seen == ["call", "step"] * 2


def test_leave_out_shutdown_detaches_what_ends_an_engine() -> None:
    from vllm.v1.engine.core_client import InprocClient

    class Client:
        def __init__(self) -> None:
            self._finalizer = weakref.finalize(self, ended.append, "shutdown")

    assert "self._finalizer = weakref.finalize(" in inspect.getsource(InprocClient)
    ended: list[str] = []
    for patched, wanted in ((True, []), (False, ["shutdown"])):
        llm = SimpleNamespace(llm_engine=SimpleNamespace(engine_core=Client()))
        if patched:
            vllm_patches.leave_out_shutdown(llm)
        del llm
        gc.collect()
        assert ended == wanted


def test_free_queue_at_exit_drops_the_queue_of_a_group(monkeypatch: pytest.MonkeyPatch) -> None:
    from vllm.distributed.parallel_state import GroupCoordinator

    assert "mq_broadcaster" in GroupCoordinator.__annotations__
    at_exit: list[Any] = []
    monkeypatch.setattr(vllm_patches.atexit, "register", lambda *call: at_exit.append(call))
    group = SimpleNamespace(mq_broadcaster="queue")
    vllm_patches.free_queue_at_exit(group)
    (function, *arguments) = at_exit[0]
    function(*arguments)
    assert group.mq_broadcaster is None


def test_a_model_without_a_head_keeps_the_packed_embedding_that_is_one() -> None:
    model = Model(tied=True)
    del model.lm_head
    vllm_patches.unpack_embedding(model)
    assert model.model.wte.cpu_linear is not None
    assert issubclass(_vllm().ParallelLMHead, _vllm().VocabParallelEmbedding)


def _vllm() -> Any:
    from vllm.model_executor.layers import vocab_parallel_embedding

    return vocab_parallel_embedding


def test_undecorated_model_classes_keep_transformers_own_classes_as_they_are() -> None:
    from vllm.model_executor.models.transformers.base import Base

    class Decoder:
        pass

    original = Base._decorate_cls_for_torch_compile
    names = ["self", "cls", "dynamic_arg_dims", "enable_if", "is_encoder"]
    assert list(inspect.signature(original).parameters) == names
    bases = Decoder.__bases__
    with vllm_patches.undecorated_model_classes():
        Base._decorate_cls_for_torch_compile(object(), cls=Decoder, dynamic_arg_dims=None)
    assert Decoder.__bases__ == bases and Base._decorate_cls_for_torch_compile is original
