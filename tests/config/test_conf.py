"""Every file under conf/ composes and becomes what it says."""

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
from asym_lightning.commands.train import gap_limit
from asym_lightning.config.callback_checks import check_monitors, evaluated
from asym_lightning.config.preflight import check_all, check_numbers
from asym_lightning.learner.fsdp import FSDP2
from asym_lightning.learner.zero import DeepSpeed
from asym_lightning.runtime.resolvers import shipped
from asym_lightning.types import Kind
from asym_lightning.verify import jail
from tests.support.configs import CONF, composed, planned

FILES = sorted(str(path.relative_to(CONF).with_suffix("")) for path in CONF.rglob("*.yaml") if path.parent != CONF)
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


ROW = {  # as the hub's data sets have them
    "dapo_math_17k": {"prompt": [{"role": "user", "content": "1+1?"}], "reward_model": {"ground_truth": "2"}},
    "gsm8k": {"question": "1+1?", "answer": "One and one.\n#### 2"},
    "aime24": {"problem": "1+1?", "solution": "\\boxed{2}"},
    "amc23": {"question": "1+1?", "answer": 2.0},
    "olympiadbench": {"question": "1+1?", "final_answer": ["$2$"]},
}


def local(file: str, folder: Path) -> list[str]:
    """What a file needs to become something without a network: data here, and what has no default."""
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
    (folder / "d.jsonl").write_text(json.dumps(ROW.get(name, {"problem": "1+1?", "answer": "2"})) + "\n")
    prefix = "task" if group == "task" else f"benchmarks.{name}"
    return [f"{prefix}.path={folder / 'd.jsonl'}", *([f"{prefix}.heldout_path={folder / 'd.jsonl'}"] if file == "task/gsm8k" else [])]


@pytest.mark.parametrize("file", FILES)
def test_every_file_composes_and_instantiates(file: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    group, _, name = file.partition("/")
    extra = local(file, tmp_path)
    if group == "verify":
        if name in ("function", "reasoning_gym") and jail.obstacle():
            pytest.skip(f"no jail by the kernel: {jail.obstacle()}")
        extra = [*local("task/math", tmp_path), *(["task.verify.target=json:loads"] if name == "function" else [])]
    if group == "hydra":
        check_hydra(*file.rsplit("/", 1))
        return
    if group == "sweep":
        check_sweep(name)
        return
    config = composed(*choose(file), *extra)
    check_numbers(config)
    part: Any
    if group in ("policy", "rollout"):
        own = OmegaConf.load(CONF / f"{file}.yaml")
        assert isinstance(own, DictConfig)
        plain = {
            k: v
            for k, v in OmegaConf.to_container(own, resolve=False).items()
            if isinstance(v, int | float | str) and not str(v).startswith(("$", "?"))
        }  # type: ignore[union-attr]
        assert plain or config.policy.path == shipped(name)
        assert all(config[group][key] == value for key, value in plain.items())
        assert "optimizer" not in own or config.policy.optimizer.learning_rate == own.optimizer.learning_rate
    elif group in ("algo", "rules") or group in PARTS:
        algorithm = instantiate(config.algo)
        assert isinstance(algorithm, Algorithm) and all(isinstance(m, Modulation) for m in algorithm.modulation)
        assert algorithm.advantage(REWARDS).shape == REWARDS.shape
        assert group != "algo" or algorithm.name == name
    elif group == "verify":
        verifier = instantiate(config.task).verifier()
        assert verifier.score(["so \\boxed{2}"], ["2"], [True])[0].kind is Kind.TRUNCATED  # its workers start with the first that is whole
        verifier.close()
    elif group in ("task", "benchmarks"):
        part = instantiate(config.task if group == "task" else config.benchmarks[name])
        assert part.train and part.train[0].text and part.train[0].answer
        if group == "benchmarks":
            assert list(config.benchmarks) == [name]
    elif group == "lora":
        assert (config.policy.lora is None) == (name == "none")
    elif group == "correction":
        part = instantiate(config.algo).correction
        assert part(REWARDS[0], REWARDS[0], torch.zeros(8).long()).per_token.tolist() == [1.0] * 8
    elif group in ("experiment", "debug"):
        assert config != composed()
    elif group == "trainer":
        made = instantiate(config.trainer, logger=False, enable_checkpointing=False)
        assert isinstance(made, Trainer) and (not name.startswith("fsdp2") or isinstance(made.strategy, FSDP2))
        assert isinstance(made.strategy, DeepSpeed) is (name == "deepspeed")
    elif group in ("callbacks", "logger"):
        OmegaConf.register_new_resolver("hydra", lambda _: str(tmp_path), replace=True)
        given: dict[str, Any] = {
            "rollout": {"engine": None, "sampling": None, "verifier": None, "seed": 0},
            "board": {"hyperparameters": {}},
        }
        monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path / 'mlflow.db'}")
        made = [instantiate(c, **given.get(key, {})) for key, c in config[group].items()]
        assert made and all(isinstance(m, Callback | Logger) for m in made)
        assert group != "logger" or any(isinstance(m, CSVLogger) for m in made), "compare.py reads metrics.csv"
    else:
        raise AssertionError(f"no test says what conf/{group} becomes")


def check_hydra(group: str, name: str) -> None:
    """The plugin takes what the file sets."""
    if group == "hydra":
        assert composed().algo.name == "asymgrpo"  # train.yaml chooses it
        return
    kind = group.rpartition("/")[2]
    with initialize_config_dir(str(CONF), version_base="1.3"):
        config = compose("train", [f"{group}={name}", "trainer.devices=4"], return_hydra_config=True)
    HydraConfig.instance().set_config(config)
    try:
        plugin = Plugins.instance()._instantiate(config.hydra[kind])
    finally:
        HydraConfig.instance().cfg = None
    assert isinstance(plugin, Launcher if kind == "launcher" else Sweeper)
    if "gpus_per_node" in (CONF / group / f"{name}.yaml").read_text():
        assert plugin.params["gpus_per_node"] == 4  # type: ignore[attr-defined]


RUNS = {
    **{"paper_table": 7, "paper_ablations": 6, "exponents": 25, "entropy_coefficients": 4, "learning_rates": 15, "optuna_exponents": 2},
    **{f"study/{name}": count for name, count in {"frontier": 40, "rivals": 20, "entropy": 10, "coefficients": 4, "exponents": 36}.items()},
    **{f"study/{name}": count for name, count in {"scale": 5, "degenerate": 3, "two_updates": 25, "chain": 25, "quick": 15}.items()},
    **{f"study/{name}": 10 for name in ("group_of_4", "group_of_16", "iterations_50", "iterations_200", "warm_start")},
}


def check_sweep(name: str) -> None:
    """There are as many runs of one seed as there should be; those that between them have every value of every key compose, and pass
    the checks that come before the first starts."""
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
    one, two = (OmegaConf.to_container(composed(f"algo={name}")) for name in ("asymgrpo", "grpo"))
    assert isinstance(one, dict) and isinstance(two, dict)
    assert one.pop("algo") != two.pop("algo") and one == two


def test_a_method_outside_the_package_is_one_function_and_one_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "my_methods.py").write_text("def loo(rewards):\n    return rewards - rewards.mean(1, keepdim=True)\n")
    monkeypatch.syspath_prepend(tmp_path)
    config = composed("algo=grpo", "~algo.advantage")
    OmegaConf.set_struct(config, False)
    config.algo.advantage = {"_target_": "my_methods.loo", "_partial_": True}
    assert torch.equal(instantiate(config.algo).advantage(REWARDS), REWARDS - REWARDS.mean(1, keepdim=True))
    assert "my_methods" in sys.modules


def test_the_papers_protocol_and_its_neighbour_differ_in_the_checkpoint_alone() -> None:
    paper, last = (composed(f"experiment={name}") for name in ("paper_evaluation", "paper_evaluation_last"))
    check_monitors(paper, evaluated(paper, list(paper.benchmarks)))
    assert paper.callbacks.evaluation.samples.math500 == 3 and paper.callbacks.evaluation.temperature == 0.4
    assert list(paper.benchmarks) == ["math500", "aime24", "aime25", "amc23", "olympiadbench"]
    OmegaConf.set_struct(paper, False)
    del paper.callbacks.best
    paper.callbacks.evaluation.every = 0
    assert paper == last


def test_a_gap_of_arithmetic_alone_stops_no_run() -> None:
    seen = 1.1e-4  # the largest of 700 runs in fp32, at a learning rate of 1.2e-3
    assert seen < gap_limit(composed("trainer.precision=32-true")) < 1e-2
    assert gap_limit(composed("trainer.precision=bf16-mixed")) == 1
    assert gap_limit(composed("policy.logprob_gap_limit=1e-5")) == 1e-5
