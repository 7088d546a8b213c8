"""The real vLLM on a GPU: weights copied into an engine in the process, and sent to servers.

Skipped without a GPU.
"""

from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest
import torch

from asym_lightning.learner.policy import PolicyModule
from asym_lightning.rollout.server_settings import ServerSettings
from asym_lightning.rollout.servers import ServerEngine
from asym_lightning.rollout.vllm import VLLMEngine
from asym_lightning.rollout.weight_folder import buckets
from tests.support.engines import PROMPTS, SAMPLING, SEEDS, SHAPE, gap_of, policy_in, shake

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")

# Gaps in nats. Correct weights: bf16 beside fp32, with weights as large as these (0.1 to 0.4 on a
# CPU). Wrong weights: 13 to 25.
CLOSE, FAR = 1.0, 5.0


def gap(policy: PolicyModule, engine: VLLMEngine | ServerEngine) -> float:
    return gap_of(policy.cpu(), engine.generate(PROMPTS, SAMPLING, SEEDS))


def on_gpu(policy: PolicyModule) -> Iterator[tuple[str, torch.Tensor]]:
    """The policy's weights rounded to bf16, so that the gap comes from arithmetic alone."""
    with torch.no_grad():
        for parameter in policy.parameters():
            parameter.copy_(parameter.bfloat16())
    return policy.cuda().weights()


# vLLM has at most one engine that sleeps per process.
@pytest.mark.parametrize(("tied", "sleep"), [(True, False), (False, True)])
def test_an_engine_in_the_process_gets_new_weights(tied: bool, sleep: bool, tmp_path: Path) -> None:
    policy = policy_in(tmp_path, tied)
    engine = VLLMEngine(str(tmp_path), "bfloat16", 64, 64, gpu_memory_utilization=0.1, sleep=sleep)
    shake(policy)
    engine.sync(on_gpu(policy), 1)
    assert engine._copies is not None and len(engine._copies.parts) == len(dict(policy.weights()))
    assert gap(policy, engine) < CLOSE
    for version in (2, 3):
        shake(policy)
        assert gap(policy, engine) > FAR
        assert engine.sleep() == sleep  # frees the engine's memory
        engine.sync(on_gpu(policy), version)
        assert gap(policy, engine) < CLOSE

    def parameters(model: torch.nn.Module) -> dict[str, torch.Tensor]:
        return {name: tensor.clone() for name, tensor in model.named_parameters()}

    given = engine.llm.apply_model(parameters)[0]
    engine.llm.collective_rpc("reload_weights", kwargs={"weights_iterator": on_gpu(policy)})
    reloaded = engine.llm.apply_model(parameters)[0]
    assert given.keys() == reloaded.keys()
    assert all(torch.equal(given[name], reloaded[name]) for name in given)
    engine.close()


@pytest.mark.parametrize("transfer", ["ipc", "nccl"])
def test_weights_are_sent_to_a_server(
    transfer: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    policy = policy_in(tmp_path / "model", tied=False)
    if transfer == "nccl":
        # Both are on one GPU, which NCCL allows if it takes them for two hosts.
        monkeypatch.setattr("asym_lightning.rollout.servers.gpu_for", lambda *_: {})
        monkeypatch.setenv("NCCL_SOCKET_IFNAME", "lo")
        monkeypatch.setenv("NCCL_HOSTID", "server")
    options = ["--enforce-eager", "--gpu-memory-utilization", "0.1"]
    settings = ServerSettings(transfer=transfer, request_timeout_s=60)
    engine = ServerEngine(
        str(tmp_path / "model"),
        "bfloat16",
        64,
        max_num_seqs=64,
        settings=settings,
        logs=tmp_path / "servers",
        options=options,
    )
    monkeypatch.setenv("NCCL_HOSTID", "trainer")
    several_per_layer = partial(buckets, bucket_bytes=2**16)
    monkeypatch.setattr("asym_lightning.rollout.weight_push.buckets", several_per_layer)
    for version in (1, 2, 3):
        shake(policy)
        if version > 1:
            assert gap(policy, engine) > FAR
        engine.sync(on_gpu(policy), version)
        assert gap(policy, engine) < CLOSE
        drawn = engine.generate(PROMPTS, SAMPLING, SEEDS)
        assert {sample.version for samples in drawn for sample in samples} == {version}
    engine.close()
    assert SHAPE["vocab_size"] == 258, "no multiple of 64: rows that pad it are part of this"
