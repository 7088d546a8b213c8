"""The real vLLM beside transformers: same weights, same log-probs; new weights reach the engine."""

import shutil
import weakref
from collections.abc import Iterator
from copy import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from hydra import compose, initialize_config_dir
from transformers import GenerationConfig

from asym_lightning.config.engines import build_engine
from asym_lightning.learner.embedded import byte_tokenizer
from asym_lightning.learner.policy import PolicyModule
from asym_lightning.rollout.base import Sampling, sampling_seed
from asym_lightning.rollout.copies import computes_as_loaded, record
from asym_lightning.rollout.transformers import TransformersEngine
from asym_lightning.rollout.vllm import VLLMEngine
from asym_lightning.runtime import config_dir
from tests.support.engines import FAMILIES, PROMPTS, SAMPLING, SEEDS, gap, gap_of, policy_of, shake
from tests.support.ranks import on_two_ranks


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a model of each family."""
    place = tmp_path_factory.mktemp("families")
    for name, make in FAMILIES.items():
        torch.manual_seed(0)
        make().save_pretrained(place / name)
        byte_tokenizer().save_pretrained(place / name)
    return place


@pytest.fixture(scope="module", params=FAMILIES)
def pair(
    request: pytest.FixtureRequest, folders: Path
) -> Iterator[tuple[PolicyModule, VLLMEngine, Path]]:
    """A policy of each family, and a vLLM engine built from its exported folder."""
    folder = folders / request.param
    engine = VLLMEngine(str(folder), "float32", 64, 256)
    yield policy_of(folder), engine, folder
    engine.close()


def test_changed_weights_reach_the_engine_and_stale_ones_show(
    pair: tuple[PolicyModule, VLLMEngine, Path],
) -> None:
    policy, engine, _ = pair
    engine.sync(policy.weights(), 0)
    assert gap(policy, engine) < 1e-4
    shake(policy)
    assert gap(policy, engine) > 1e-2, "a stale engine must show in the log-probs"
    engine.sync(policy.weights(), 0)
    assert gap(policy, engine) < 1e-4


def test_what_a_loader_of_vllm_copies_can_be_done_again(
    pair: tuple[PolicyModule, VLLMEngine, Path],
) -> None:
    """Test models as on a GPU, where nothing packs their weights."""
    policy, engine, _ = pair
    config = copy(engine.llm.llm_engine.vllm_config)
    config.compilation_config = copy(config.compilation_config)

    def unpacked(_: torch.nn.Module) -> Any:
        from vllm.config import set_current_vllm_config
        from vllm.model_executor.model_loader.utils import initialize_model

        # vLLM registers each layer here by name, and refuses a name that is taken.
        config.compilation_config.static_forward_context = {}
        with set_current_vllm_config(config):
            return initialize_model(vllm_config=config)

    copied, loaded = (engine.llm.apply_model(unpacked)[0] for _ in range(2))
    assert not computes_as_loaded(copied), "here the engine packs its matrices"
    copies = record(copied, policy.weights())
    assert copies is not None and len(copies.parts) == len(dict(policy.weights()))
    shake(policy)
    with torch.no_grad():
        for parameter in copied.parameters():
            parameter.fill_(torch.nan)  # after a sleep the memory may hold anything
    copies.apply(policy.weights())
    loaded.load_weights(policy.weights())
    for (name, got), want in zip(copied.named_parameters(), loaded.parameters(), strict=True):
        assert torch.equal(got, want), name


def test_samples_repeat_under_their_seed_and_the_portable_engine_agrees(
    pair: tuple[PolicyModule, VLLMEngine, Path],
) -> None:
    policy, engine, folder = pair
    engine.sync(policy.weights(), 0)
    first, again = (engine.generate(PROMPTS, SAMPLING, SEEDS) for _ in range(2))
    assert first == again
    other = engine.generate(PROMPTS, SAMPLING, [seed + 1000 for seed in SEEDS])
    assert first != other
    assert [len(samples) for samples in first] == [4] * 3
    assert all(len(s.token_ids) <= 12 for samples in first for s in samples)
    for samples in first:
        assert all((s.token_ids[-1] == 257) != s.truncated for s in samples)
    portable = TransformersEngine(str(folder), "float32", 32)
    portable.sync(policy.weights(), 0)
    assert gap(policy, portable) < 1e-4
    first, again = (portable.generate(PROMPTS, SAMPLING, SEEDS) for _ in range(2))
    assert first == again


@pytest.mark.parametrize("pair", ["qwen3-tied"], indirect=True)  # no matter of the family
def test_generation_settings_of_a_model_change_nothing(
    pair: tuple[PolicyModule, VLLMEngine, Path], tmp_path: Path
) -> None:
    policy, _, folder = pair
    other_folder = tmp_path / "own"
    shutil.copytree(folder, other_folder)
    config = GenerationConfig(repetition_penalty=5.0, no_repeat_ngram_size=1, eos_token_id=257)
    config.save_pretrained(other_folder)
    plain = TransformersEngine(str(folder), "float32", 32)
    own = TransformersEngine(str(other_folder), "float32", 32)
    for engine in (plain, own):
        engine.sync(policy.weights(), 0)
    assert own.generate(PROMPTS, SAMPLING, SEEDS) == plain.generate(PROMPTS, SAMPLING, SEEDS)


@pytest.mark.parametrize("pair", ["qwen3-tied"], indirect=True)  # no matter of the family
def test_only_the_stop_ids_end_a_sample(pair: tuple[PolicyModule, VLLMEngine, Path]) -> None:
    """The end tokens of the folder's tokenizer (256) and config (257) do not, as vLLM's would."""
    _, engine, folder = pair
    engine.sync(policy_of(folder).weights(), 0)
    drawn = engine.generate(PROMPTS, Sampling(32, 32, 1.0, (97,)), SEEDS)
    samples = [sample for row in drawn for sample in row]
    inside = {token for s in samples for token in s.token_ids[:-1]}
    assert {256, 257} <= inside and 97 not in inside
    assert all(s.token_ids[-1] == 97 or (s.truncated and len(s.token_ids) == 32) for s in samples)


@pytest.mark.parametrize("pair", ["qwen3-tied"], indirect=True)  # no matter of the family
def test_an_engine_that_slept_samples_again_after_a_sync(
    pair: tuple[PolicyModule, VLLMEngine, Path],
) -> None:
    """Without a GPU no memory is freed, but vLLM pauses until weights and cache are woken."""
    policy, engine, _ = pair
    assert not engine.sleep()
    assert not engine.llm.llm_engine.is_sleeping(), "the engine was built without sleep"
    engine._can_sleep = True
    assert engine.sleep()
    assert engine.llm.llm_engine.is_sleeping()
    engine.sync(policy.weights(), 0)
    assert gap(policy, engine) < 1e-4
    engine._can_sleep = False


@pytest.mark.parametrize("pair", ["qwen3-tied"], indirect=True)  # no matter of the family
def test_an_engine_without_the_memory_to_wake_says_which_key_to_lower(
    pair: tuple[PolicyModule, VLLMEngine, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(tags: list[str]) -> None:
        # The text of a run with 0.8 on an H200.
        raise RuntimeError("CUDA Error: out of memory at /workspace/csrc/cumem_allocator.cpp:163")

    policy, engine, _ = pair
    monkeypatch.setattr(engine.llm, "wake_up", fail)
    monkeypatch.setattr(engine, "_asleep", True)
    too_much = r"rollout\.gpu_memory_utilization=0\.4 is too much, lower it"
    with pytest.raises(RuntimeError, match=rf"no memory for its weights .* {too_much}"):
        engine.sync(policy.weights(), 0)


@pytest.mark.parametrize("pair", ["qwen3-tied"], indirect=True)  # no matter of the family
def test_sampling_waits_for_no_compiler(pair: tuple[PolicyModule, VLLMEngine, Path]) -> None:
    *_, engine, _ = pair
    torch._dynamo.reset()
    before = dict(torch._dynamo.utils.counters["frames"])
    assert engine.generate(PROMPTS, SAMPLING, SEEDS)
    assert dict(torch._dynamo.utils.counters["frames"]) == before


@pytest.mark.parametrize("pair", ["qwen3-tied"], indirect=True)  # no matter of the family
def test_a_closed_engine_gives_its_memory_back(pair: tuple[PolicyModule, VLLMEngine, Path]) -> None:
    *_, folder = pair
    engine = VLLMEngine(str(folder), "float32", 64, 8)
    model = weakref.ref(engine.llm.apply_model(lambda model: model)[0])
    assert model() is not None
    engine.close()
    assert model() is None


@pytest.mark.parametrize("pair", ["qwen3-tied"], indirect=True)  # no matter of the family
def test_more_prompt_tokens_than_one_forward_pass_takes(
    pair: tuple[PolicyModule, VLLMEngine, Path],
) -> None:
    policy, engine, _ = pair
    engine.sync(policy.weights(), 0)
    prompts = torch.randint(256, (300, 60), generator=torch.Generator().manual_seed(0)).tolist()
    seeds = [sampling_seed(2, "test", i) for i in range(300)]
    sampling = Sampling(n=1, max_tokens=4, temperature=1.0, stop_ids=(257,))
    together = engine.generate(prompts, sampling, seeds)
    for i in range(3):
        [[alone]] = engine.generate([prompts[i]], sampling, [seeds[i]])
        assert together[i][0].token_ids == alone.token_ids


HELD: list[VLLMEngine] = []  # an engine that ends takes the process group with it
# Per round: the prompts of the first and of the second rank.
SHARES = (([0, 1, 2], []), ([1], [0, 2]))


def on_each_rank(folder: Path) -> None:
    """Share one engine between two ranks: one round with its first weights, one with new ones."""
    torch.distributed.init_process_group("gloo")
    rank = torch.distributed.get_rank()
    policy = policy_of(folder)
    engine = VLLMEngine(str(folder), "float32", 64, 256, distributed=True, tensor_parallel_size=2)
    torch.distributed.barrier()  # each rank removes the name of its segment before
    maps = Path("/proc/self/maps").read_text().splitlines()
    shared = [line for line in maps if "cpushm" in line]
    assert len(shared) >= 2
    assert all(line.endswith("(deleted)") for line in shared), "another run could meet the names"
    drawn = []
    for shares in SHARES:
        engine.sync(policy.weights(), 0)
        prompts = [PROMPTS[i] for i in shares[rank]]
        drawn.append(engine.generate(prompts, SAMPLING, [SEEDS[i] for i in shares[rank]]))
        torch.manual_seed(1)
        shake(policy)
    assert engine.generate([], SAMPLING, []) == []
    torch.save(drawn, folder / f"rank-{rank}.pt")
    HELD.append(engine)


@pytest.fixture
def left_in_memory() -> Iterator[None]:
    """Segments of shared memory as a killed run of two ranks leaves them, under vLLM's names."""
    segments = [Path(f"/dev/shm/-tp:0-[0-1]-cpushm_{rank}") for rank in range(2)]
    if not segments[0].parent.is_dir():
        pytest.skip("needs /dev/shm")
    for segment in segments:
        segment.touch()
    yield
    for segment in segments:
        segment.unlink(missing_ok=True)


SHARED = [
    "llama-untied",
    *(pytest.param(name, marks=pytest.mark.full) for name in ("qwen2-tied", "qwen3-tied")),
]


@pytest.mark.parametrize("pair", SHARED, indirect=True)
def test_an_engine_that_two_ranks_share_samples_what_a_whole_one_does(
    pair: tuple[PolicyModule, VLLMEngine, Path], left_in_memory: None
) -> None:
    _, engine, folder = pair
    on_two_ranks(on_each_rank, folder)
    policy = policy_of(folder)
    ranks = [torch.load(folder / f"rank-{rank}.pt", weights_only=False) for rank in range(2)]
    for number, shares in enumerate(SHARES):
        engine.sync(policy.weights(), 0)
        unshared = engine.generate(PROMPTS, SAMPLING, SEEDS)
        asked = [i for share in shares for i in share]
        answers = [samples for rank in ranks for samples in rank[number]]
        drawn = dict(zip(asked, answers, strict=True))
        assert gap_of(policy, [drawn[i] for i in range(3)]) < 1e-4
        expected = [sample for samples in unshared for sample in samples]
        actual = [sample for i in range(3) for sample in drawn[i]]
        for want, got in zip(expected, actual, strict=True):
            assert got.token_ids == want.token_ids
            assert got.logprobs == pytest.approx(want.logprobs, abs=1e-4)
        torch.manual_seed(1)
        shake(policy)


def test_where_vllm_is_not_installed_one_line_says_what_is_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    FAMILIES["qwen3-tied"]().save_pretrained(tmp_path)
    monkeypatch.setattr("asym_lightning.config.engines.find_spec", lambda name: None)
    with initialize_config_dir(str(config_dir()), version_base="1.3"):
        engine = build_engine("vllm", str(tmp_path), compose("train"), 64, distributed=False)
    assert isinstance(engine, TransformersEngine)
    said = capsys.readouterr().out.splitlines()
    assert len(said) == 1 and "vllm is not installed" in said[0] and "transformers" in said[0]


@pytest.mark.parametrize(
    ("name", "gpu", "eager"),
    [("evaluate", False, True), ("evaluate", True, False), ("train", True, True)],
)
def test_vllm_compiles_where_it_pays(
    name: str, gpu: bool, eager: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: dict[str, Any] = {}

    def engine(*_: Any, **options: Any) -> None:
        asked.update(options)

    monkeypatch.setattr("asym_lightning.rollout.vllm.VLLMEngine", engine)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: gpu)
    with initialize_config_dir(str(config_dir()), version_base="1.3"):
        build_engine("vllm", "policy", compose(name), 64, distributed=False, dtype="float32")
    assert asked["enforce_eager"] is eager
