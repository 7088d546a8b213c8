"""The rehearsal with the real engine: a chain in order passes, and each fault is named."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning import Trainer
from torch import Tensor

from asym_lightning.learner import policy as policy_module
from asym_lightning.learner.engine_check import FP32_BOUND
from asym_lightning.learner.head import OutputHead
from asym_lightning.learner.policy import PolicyModule
from asym_lightning.learner.rehearsal import Rehearsed, refuse, rehearse
from asym_lightning.rollout import vllm as vllm_module
from asym_lightning.rollout.vllm import VLLMEngine
from asym_lightning.types import Completion, ConfigError, EngineMismatchError
from tests.support.engines import PROMPTS, SAMPLING, SEEDS, policy_in, shake


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("tied")


@pytest.fixture(scope="module")
def start(folder: Path) -> PolicyModule:
    return policy_in(folder, tied=True)


@pytest.fixture(scope="module")
def engine(start: PolicyModule, folder: Path) -> Iterator[VLLMEngine]:
    built = VLLMEngine(str(folder), "float32", 64, 16)
    yield built
    built.close()


@pytest.fixture(scope="module")
def half_engine(start: PolicyModule, folder: Path) -> Iterator[VLLMEngine]:
    built = VLLMEngine(str(folder), "bfloat16", 64, 16)
    yield built
    built.close()


@pytest.fixture
def policy(start: PolicyModule) -> Iterator[PolicyModule]:
    """The policy of the engine's folder, with its first weights again afterwards."""
    start.trainer = Trainer(accelerator="cpu", logger=False, enable_checkpointing=False)
    before = {name: tensor.clone() for name, tensor in start.model.state_dict().items()}
    yield start
    start.model.load_state_dict(before)


def rehearsed(policy: PolicyModule, engine: Any, as_loaded: bool = False) -> Rehearsed:
    def draw() -> list[Completion]:
        [samples] = engine.generate([PROMPTS[1]], SAMPLING, SEEDS[:1])
        return [Completion(s.token_ids, s.logprobs, "", truncated=s.truncated) for s in samples]

    def sync() -> None:
        engine.sync(policy.weights(engine.takes_checkpoints), 0)

    return rehearse(policy, PROMPTS[1], draw, sync=sync, as_loaded=as_loaded)


def test_a_chain_in_order_passes(policy: PolicyModule, engine: VLLMEngine) -> None:
    found = rehearsed(policy, engine, as_loaded=True)
    assert found.bound == FP32_BOUND
    for gap in (found.packed, found.loaded, found.synced):
        assert gap is not None and gap < FP32_BOUND / 10
    shake(policy)
    assert rehearsed(policy, engine).synced < FP32_BOUND / 10


def test_a_policy_that_computes_otherwise_than_transformers_is_refused(
    policy: PolicyModule, engine: VLLMEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    original: Callable[[Any], OutputHead] = policy_module.output_head
    monkeypatch.setattr(
        policy_module, "output_head", lambda model: replace(original(model), scale=1.1)
    )
    with pytest.raises(ConfigError, match="differ from transformers' own by"):
        rehearsed(policy, engine)


class Losing:
    """An engine whose sync loses what a name has."""

    takes_checkpoints = True

    def __init__(self, engine: VLLMEngine, lost: str):
        self.engine, self.lost = engine, lost
        self.generate = engine.generate

    def sync(self, weights: Iterable[tuple[str, Tensor]], version: int) -> None:
        given = ((n, t * 0 if self.lost in n else t) for n, t in weights)
        self.engine.sync(given, version)


@pytest.mark.parametrize("lost", ["layers.1.mlp.down_proj", "embed_tokens", "norm.weight"])
def test_a_sync_that_loses_weights_is_refused(
    lost: str, policy: PolicyModule, engine: VLLMEngine
) -> None:
    shake(policy)
    with pytest.raises(ConfigError, match="sync"):
        rehearsed(policy, Losing(engine, lost))


def test_a_tied_head_that_keeps_its_weights_is_read_back(
    policy: PolicyModule, engine: VLLMEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The gap of log-probs would not show a change as small as this."""
    rehearsed(policy, engine)
    for repair in ("free_packed_head", "retie"):
        monkeypatch.setattr(vllm_module, repair, lambda model: None)
    with torch.no_grad():
        policy.model.get_input_embeddings().weight.mul_(1 + 1e-6)
    with pytest.raises(ConfigError, match=r"embed_tokens\.weight: lm_head computes"):
        rehearsed(policy, engine)


def lost_on_the_way(
    engine: VLLMEngine, lost: str, monkeypatch: pytest.MonkeyPatch
) -> dict[str, Tensor]:
    """Let the engine keep the weights that a name has, from now on."""
    kept: dict[str, Tensor] = {}
    load = engine._load

    def loading(weights: Iterable[tuple[str, Tensor]]) -> None:
        load((name, kept.get(name, tensor)) for name, tensor in weights)

    monkeypatch.setattr(engine, "_load", loading)
    return kept


@pytest.mark.parametrize("lost", ["layers.1.mlp.up_proj", "layers.0.self_attn.k_proj", "embed"])
@pytest.mark.parametrize("precision", ["engine", "half_engine"])
def test_one_weight_that_stays_behind_is_named_within_as_many_syncs_as_layers(
    lost: str,
    precision: str,
    policy: PolicyModule,
    request: pytest.FixtureRequest,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    engine: VLLMEngine = request.getfixturevalue(precision)
    engine.sync(policy.weights(), 0)
    kept = lost_on_the_way(engine, lost, monkeypatch)
    kept |= {name: tensor.clone() for name, tensor in policy.weights() if lost in name}
    with torch.no_grad():
        for parameter in policy.model.parameters():
            parameter.mul_(1.02)  # far below what the gap of log-probs shows in bf16
    with pytest.raises(EngineMismatchError, match=lost):
        for _ in range(2):
            engine.sync(policy.weights(), 0)


@pytest.mark.parametrize(
    ("loaded", "synced", "text"),
    [
        (2.0, 2.0, "computes this model differently"),
        (1e-6, 2.0, "the sync does not bring all weights"),
        (None, 2.0, "the sync does not bring all weights"),
    ],
)
def test_the_engine_as_loaded_tells_the_cause(
    loaded: float | None, synced: float, text: str
) -> None:
    with pytest.raises(ConfigError, match=text):
        refuse(Rehearsed(1e-4, packed=1e-6, loaded=loaded, synced=synced))


def test_weights_that_the_engine_does_not_find_in_the_folder_come_with_the_sync() -> None:
    refuse(Rehearsed(1e-4, packed=1e-6, loaded=2.0, synced=1e-6))


def test_gaps_that_are_not_numbers_are_refused() -> None:
    with pytest.raises(ConfigError):
        refuse(Rehearsed(1e-4, packed=None, loaded=None, synced=float("nan")))
    refuse(Rehearsed(1e-4, packed=None, loaded=None, synced=0.0))
