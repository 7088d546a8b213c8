"""Every file under conf/ composes, and its objects have the values of the file."""

import json
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from hydra import compose, initialize_config_dir
from hydra.core.hydra_config import HydraConfig
from hydra.core.plugins import Plugins
from hydra.plugins.launcher import Launcher
from hydra.plugins.sweeper import Sweeper
from hydra.utils import instantiate
from lightning import Callback, Trainer
from lightning.pytorch.loggers import CSVLogger, Logger
from omegaconf import DictConfig, OmegaConf

from asym_lightning.algorithms import Algorithm, Modulation
from asym_lightning.config.callback_checks import (
    MANDATORY,
    check_monitors,
    evaluated,
    mandatory_settings,
)
from asym_lightning.config.loading import build_benchmarks, build_task
from asym_lightning.config.preflight import check_all, check_numbers
from asym_lightning.learner.fsdp import FSDP2
from asym_lightning.learner.zero import DeepSpeed
from asym_lightning.runtime.resolvers import shipped
from asym_lightning.types import Kind
from asym_lightning.verify import jail
from callbacks.order import ORDER
from tests.support.configs import CONF, composed, planned

PATHS = [path.relative_to(CONF) for path in CONF.rglob("*.yaml") if path.parent != CONF]
FILES = sorted(str(path.with_suffix("")) for path in PATHS)
PARTS = ("advantage", "loss", "aggregation", "modulation")  # groups that algo/ chooses from
REWARDS = torch.tensor([[1.0] + [0.0] * 7, [1.0, 1.0, 0.0, 1.0] * 2])


def choose(file: str) -> list[str]:
    group, _, name = file.partition("/")
    if group == "trainer" and not torch.cuda.is_available():
        return [f"trainer={name}", "trainer.accelerator=cpu"]
    if group == "rules":
        return [f"rules@algo.rules={name}"]
    if group == "verify":
        return ["task=math", f"verify@task.verify={name}"]
    if group == "benchmarks":
        return [f"benchmarks=[{name}]"]
    return ["algo=grpo", f"{group}@algo.{group}={name}"] if group in PARTS else [f"{group}={name}"]


# Rows like those of the hub's data sets.
ROW = {
    "dapo_math_17k": {
        "prompt": [{"role": "user", "content": "1+1?"}],
        "reward_model": {"ground_truth": "2"},
    },
    "gsm8k": {"question": "1+1?", "answer": "One and one.\n#### 2"},
    "aime24": {"problem": "1+1?", "solution": "\\boxed{2}"},
    "amc23": {"question": "1+1?", "answer": 2.0},
    "olympiadbench": {"question": "1+1?", "final_answer": ["$2$"]},
}


def local(file: str, folder: Path) -> list[str]:
    """Overrides that make a file usable without a network: local data, and missing values."""
    group, _, name = file.rpartition("/")
    if file == "policy/hf":
        return ["policy.path=somewhere"]
    if file == "task/reasoning_gym":
        pytest.importorskip("reasoning_gym")
        return ["task.datasets={chain_sum: 1}", "task.train_size=8", "task.heldout_size=2"]
    if file == "task/mixture":
        return ["+task@task.sources.pairs=countdown"]
    if group not in ("task", "benchmarks") or name in ("countdown", "chain"):
        return []
    row, data = ROW.get(name, {"problem": "1+1?", "answer": "2"}), folder / "d.jsonl"
    data.write_text(json.dumps(row) + "\n")
    prefix = "task" if group == "task" else f"benchmarks.{name}"
    overrides = [f"{prefix}.path={data}"]
    if file == "task/gsm8k":
        overrides.append(f"{prefix}.heldout_path={data}")
    return overrides


@pytest.mark.parametrize("file", FILES)
def test_every_file_composes_and_instantiates(
    file: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    group, _, name = file.partition("/")
    if group == "hydra":
        check_hydra(*file.rsplit("/", 1))
        return
    if group == "sweep":
        check_sweep(name)
        return
    extra = local(file, tmp_path)
    if group == "verify":
        if name in ("function", "reasoning_gym") and jail.obstacle():
            pytest.skip(f"no jail by the kernel: {jail.obstacle()}")
        extra = local("task/math", tmp_path)
        if name == "function":
            extra.append("task.verify.target=json:loads")
    config = composed(*choose(file), *extra)
    check_numbers(config)
    if group in ("policy", "rollout"):
        check_values(config, group, name)
    elif group in ("algo", "rules", "correction") or group in PARTS:
        check_algorithm(config, group, name)
    elif group in ("task", "benchmarks", "verify"):
        check_task(config, group, name)
    elif group == "lora":
        assert (config.policy.lora is None) == (name == "none")
    elif group in ("experiment", "debug"):
        assert config != composed()
    elif group == "trainer":
        trainer = instantiate(config.trainer, logger=False, enable_checkpointing=False)
        assert isinstance(trainer, Trainer)
        assert not name.startswith("fsdp2") or isinstance(trainer.strategy, FSDP2)
        assert isinstance(trainer.strategy, DeepSpeed) is (name == "deepspeed")
    elif group in ("callbacks", "logger"):
        OmegaConf.register_new_resolver("hydra", lambda _: str(tmp_path), replace=True)
        monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path / 'mlflow.db'}")
        check_callbacks(config, group)
    else:
        raise AssertionError(f"no test says what conf/{group} becomes")


def check_values(config: Any, group: str, name: str) -> None:
    """The composed config has the plain values of the file."""
    own = OmegaConf.load(CONF / group / f"{name}.yaml")
    assert isinstance(own, DictConfig)
    values: Any = OmegaConf.to_container(own, resolve=False)
    plain = {}
    for key, value in values.items():
        if isinstance(value, int | float | str) and not str(value).startswith(("$", "?")):
            plain[key] = value
    assert plain or config.policy.path == shipped(name)
    assert all(config[group][key] == value for key, value in plain.items())
    if "optimizer" in own:
        assert config.policy.optimizer.learning_rate == own.optimizer.learning_rate


def check_algorithm(config: Any, group: str, name: str) -> None:
    algorithm = instantiate(config.algo)
    if group == "correction":
        found = algorithm.correction(REWARDS[0], REWARDS[0], torch.zeros(8).long())
        assert found.per_token.tolist() == [1.0] * 8
        return
    assert isinstance(algorithm, Algorithm)
    assert all(isinstance(modulation, Modulation) for modulation in algorithm.modulation)
    assert algorithm.advantage(REWARDS).shape == REWARDS.shape
    assert group != "algo" or algorithm.name == name


def check_task(config: Any, group: str, name: str) -> None:
    if group == "verify":
        verifier = build_task(config, "task").verifier()
        # A truncated completion starts no worker.
        (verdict,) = verifier.score(["so \\boxed{2}"], ["2"], [True])
        assert verdict.kind is Kind.TRUNCATED
        verifier.close()
        return
    task = build_task(config, "task") if group == "task" else build_benchmarks(config)[name]
    assert task.train and task.train[0].text and task.train[0].answer
    if group == "benchmarks":
        assert list(config.benchmarks) == [name]


def check_callbacks(config: Any, group: str) -> None:
    """Callbacks and loggers become objects; of callbacks that a run builds there are settings."""
    if group == "callbacks":
        assert tuple(config.callbacks) == ORDER
        assert all(mandatory_settings(config, name) for name in MANDATORY)
    optional = [name for name in config[group] if name not in MANDATORY]
    parts = [instantiate(config[group][name]) for name in optional]
    assert parts and all(isinstance(part, Callback | Logger) for part in parts)
    if group == "logger":
        writes_csv = any(isinstance(part, CSVLogger) for part in parts)
        assert writes_csv, "compare.py reads metrics.csv"


def check_hydra(group: str, name: str) -> None:
    """The plugin takes the values of the file."""
    if group == "hydra":
        assert composed().algo.name == "asymgrpo"  # train.yaml chooses it
        return
    kind = group.rpartition("/")[2]
    with initialize_config_dir(str(CONF), version_base="1.3"):
        overrides = [f"{group}={name}", "trainer.devices=4"]
        config = compose("train", overrides, return_hydra_config=True)
    HydraConfig.instance().set_config(config)
    try:
        plugin = Plugins.instance()._instantiate(config.hydra[kind])
    finally:
        HydraConfig.instance().cfg = None
    assert isinstance(plugin, Launcher if kind == "launcher" else Sweeper)
    if "gpus_per_node" in (CONF / group / f"{name}.yaml").read_text():
        assert plugin.params["gpus_per_node"] == 4  # type: ignore[attr-defined]


STUDY = {
    **{"frontier": 40, "rivals": 20, "entropy": 10, "coefficients": 4, "exponents": 36},
    **{"scale": 5, "degenerate": 3, "two_updates": 25, "chain": 25, "quick": 15},
    **{"group_of_4": 10, "group_of_16": 10, "iterations_50": 10, "iterations_200": 10},
    "warm_start": 10,
}
# Sweep -> runs of one seed.
RUNS = {
    **{"paper_table": 7, "paper_ablations": 6, "exponents": 25, "entropy_coefficients": 4},
    **{"learning_rates": 15, "optuna_exponents": 2},
    **{f"study/{name}": count for name, count in STUDY.items()},
}


def check_sweep(name: str) -> None:
    """A sweep has the number of runs of RUNS, and its runs pass the checks before the first starts.

    Only some runs are composed: together they have every value of every key.
    """
    recipe = {"study/chain": "chain", "study/quick": "quick"}.get(name, "pairs")
    recipes = [f"experiment=study/{recipe}"] if name.startswith("study/") else []

    def covering(jobs: list[list[str]]) -> list[list[str]]:
        assert len(jobs) == RUNS[name] == len({tuple(job) for job in jobs})
        seen: set[str] = set()
        return [job for job in jobs if not seen.issuperset(job) and not seen.update(job)]

    sweep, configs = planned(*recipes, f"sweep={name}", "seed=1", chosen=covering)
    check_all(configs)
    assert len(set(sweep.folders)) == len(configs) > 1
    HydraConfig.instance().cfg = None


def test_two_methods_differ_in_nothing_else() -> None:
    asymgrpo = OmegaConf.to_container(composed("algo=asymgrpo"))
    grpo = OmegaConf.to_container(composed("algo=grpo"))
    assert isinstance(asymgrpo, dict) and isinstance(grpo, dict)
    assert asymgrpo.pop("algo") != grpo.pop("algo") and asymgrpo == grpo


def test_a_method_outside_the_package_is_one_function_and_one_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    code = "def loo(rewards):\n    return rewards - rewards.mean(1, keepdim=True)\n"
    (tmp_path / "my_methods.py").write_text(code)
    monkeypatch.syspath_prepend(tmp_path)
    config = composed("algo=grpo", "~algo.advantage")
    OmegaConf.set_struct(config, False)
    config.algo.advantage = {"_target_": "my_methods.loo", "_partial_": True}
    advantages = instantiate(config.algo).advantage(REWARDS)
    assert torch.equal(advantages, REWARDS - REWARDS.mean(1, keepdim=True))
    assert "my_methods" in sys.modules


def test_the_papers_protocol_and_its_neighbour_differ_in_the_checkpoint_alone() -> None:
    paper = composed("experiment=paper_evaluation")
    last = composed("experiment=paper_evaluation_last")
    check_monitors(paper, evaluated(paper, list(paper.benchmarks)))
    assert paper.callbacks.evaluation.samples.math500 == 3
    assert paper.callbacks.evaluation.temperature == 0.4
    assert list(paper.benchmarks) == ["math500", "aime24", "aime25", "amc23", "olympiadbench"]
    OmegaConf.set_struct(paper, False)
    del paper.callbacks.best
    paper.callbacks.evaluation.every = 0
    assert paper == last
