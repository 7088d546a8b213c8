"""A run takes what the checks before it have built: each part is built once, the config once."""

import random
from collections import Counter
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra.core.hydra_config import HydraConfig
from hydra.utils import get_object
from lightning import Trainer
from omegaconf import OmegaConf
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from asym_lightning.algorithms import Algorithm
from asym_lightning.config.parts import HandedOn, handed_on
from asym_lightning.config.preflight import check_all
from asym_lightning.tasks.countdown import PairsCountdown
from callbacks.order import ORDER
from callbacks.record import Recorder
from callbacks.vllm_rollout import VLLMRollout
from tests.support.configs import composed, planned
from tests.support.runs import random_policy, run


def test_a_part_is_taken_once_and_only_for_its_settings() -> None:
    config, other = composed("task.train_size=16"), composed("task.train_size=32")
    parts = HandedOn()
    first = parts.build("data", config, object)
    assert parts.take("data", other, object) is not first
    assert parts.take("algorithm", config, object) is not first
    assert parts.take("data", config, object) is first
    assert parts.take("data", config, object) is not first
    for kinds in ((), ("data",)):
        first = parts.build("data", config, object)
        parts.forget(*kinds)
        assert parts.take("data", config, object) is not first


def test_a_setting_that_follows_another_key_is_compared_by_its_value() -> None:
    config, other = composed("task.seed=${seed}", "seed=1"), composed("task.seed=${seed}", "seed=2")
    parts = HandedOn()
    first = parts.build("data", config, object)
    assert parts.take("data", other, object) is not first


@pytest.mark.parametrize(
    "draw", [random.random, lambda: np.random.rand(1)[0], lambda: torch.rand(1)[0]]
)
def test_what_draws_random_numbers_is_built_by_the_run_after_its_seed(
    draw: Callable[[], Any],
) -> None:
    config, parts = composed(), HandedOn()
    first = parts.build("algorithm", config, draw)
    assert parts.take("algorithm", config, lambda: None) is not first


class Counting:
    """An advantage of a user's own that keeps something from call to call."""

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self, rewards: torch.Tensor) -> torch.Tensor:
        self.calls += 1
        return rewards - rewards.mean(1, keepdim=True)


def test_the_algorithm_of_a_run_has_not_been_called() -> None:
    own = ("~algo.advantage", f"+algo.advantage._target_={__name__}.Counting")
    _, [config] = planned("algo=grpo", "task.train_size=16", "task.heldout_size=4", *own)
    check_all([config])
    algorithm = handed_on.take("algorithm", config, lambda: None)
    assert algorithm.advantage.calls == 0
    HydraConfig.instance().cfg = None


def test_each_run_of_a_sweep_builds_its_own_trainer() -> None:
    few = ("task.train_size=16", "task.heldout_size=4")
    _, configs = planned("algo=grpo,rloo", *few)
    check_all(configs)
    for config in configs:
        assert handed_on.take("trainer", config, lambda: None) is None
    algorithms = [handed_on.take("algorithm", config, lambda: None) for config in configs]
    assert [algorithm.name for algorithm in algorithms] == ["grpo", "rloo"]
    HydraConfig.instance().cfg = None


def counted(monkeypatch: pytest.MonkeyPatch, counts: Counter[str], owner: Any, name: str) -> None:
    """Count the calls of a method under the name of its class."""
    work = getattr(owner, name)

    @wraps(work)
    def counting(*given: Any, **options: Any) -> Any:
        counts[owner.__name__] += 1
        return work(*given, **options)

    monkeypatch.setattr(owner, name, counting)


def test_a_run_builds_each_part_once_and_composes_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kinds: dict[str, type] = {"record": Recorder, "rollout": VLLMRollout}
    for name, settings in composed().callbacks.items():
        kinds.setdefault(str(name), get_object(settings.get("_target_", "builtins.object")))
    built = [Algorithm, PairsCountdown, Trainer, *kinds.values()]
    counts: Counter[str] = Counter()
    for kind in built:
        counted(monkeypatch, counts, kind, "__init__")
    counted(monkeypatch, counts, ConfigLoaderImpl, "load_configuration")
    counted(monkeypatch, counts, AutoTokenizer, "from_pretrained")
    acting: list[type] = []
    fit = Trainer.fit

    def noted(trainer: Any, *given: Any, **options: Any) -> None:
        acting.extend(map(type, trainer.callbacks))
        fit(trainer, *given, **options)

    monkeypatch.setattr(Trainer, "fit", noted)
    policy = random_policy(tmp_path / "policy")
    few = ("task.train_size=64", "task.heldout_size=8")
    folder = run(monkeypatch, tmp_path, "debug=tiny", f"policy.path={policy}", *few)
    names = [kind.__name__ for kind in (*built, ConfigLoaderImpl, AutoTokenizer)]
    assert counts == dict.fromkeys(names, 1)
    assert acting == [kinds[name] for name in ORDER]
    # As hydra.main writes it.
    written: Any = OmegaConf.load(folder / ".hydra" / "hydra.yaml")
    assert written.hydra.job.name == "cli" and written.hydra.job.config_name == "train"
    assert written.hydra.overrides.hydra == [f"hydra.run.dir={folder}", "hydra.mode=RUN"]
    sources = [source.provider for source in written.hydra.runtime.config_sources]
    assert sources == ["hydra", "main", "command-line", "schema"]
    assert OmegaConf.load(folder / ".hydra" / "overrides.yaml")[-1] == few[-1]


def test_each_prompt_of_a_run_is_tokenised_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    encoded: list[str] = []
    encode = PairsCountdown.encode

    def counted(self: Any, problem: Any, tokenizer: PreTrainedTokenizerFast) -> Any:
        encoded.append(problem.id)
        return encode(self, problem, tokenizer)

    monkeypatch.setattr(PairsCountdown, "encode", counted)
    policy = random_policy(tmp_path / "policy")
    sizes = ("task.train_size=64", "task.heldout_size=8", "trainer.max_epochs=2")
    run(monkeypatch, tmp_path, f"policy.path={policy}", *sizes)
    assert len(encoded) == len(set(encoded)) == 64 + 8
