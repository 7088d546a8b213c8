"""The paper's experiments: the files have the published values, the models their known sizes."""

import re
from typing import Any

import pytest
import torch

import dry_run
from asym_lightning.runtime import config_dir
from memory import Shape
from tests.support import ROOT
from tests.support.configs import composed
from tests.support.paper import EXPERIMENTS


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_what_is_published_stands_in_the_file(name: str) -> None:
    config = composed(f"experiment={name}")
    assert config.algo.name == "asymgrpo"
    assert (config.algo.advantage.beta_pos, config.algo.advantage.beta_neg) == (0.9, 0.4)
    assert (config.rollout.group_size, config.rollout.prompts_per_iteration) == (8, 128)
    assert config.policy.prompts_per_mini_batch == 64
    assert config.policy.optimizer.learning_rate == 2e-6
    assert config.trainer.devices == 4
    assert not config.task.enable_thinking
    assert config.rollout.max_tokens == (4096 if name == "paper_qwen3_4b" else 3072)
    assert config.callbacks.best.monitor == "eval/math500/avg@3"
    assert config.callbacks.evaluation.temperature == 0.4
    for line in (config_dir() / "experiment" / f"{name}.yaml").read_text().splitlines():
        setting = ": " in line and not line.startswith(("#", "defaults:"))
        if setting:
            assert "published" in line or "filled in" in line, f"{line}: which of the two is it?"


def test_a_row_of_the_table_differs_in_the_method_alone() -> None:
    asymgrpo = composed("experiment=paper_qwen3_4b")
    grpo = composed("experiment=paper_qwen3_4b", "algo=grpo")
    assert asymgrpo.algo.name == "asymgrpo" and grpo.algo.name == "grpo"
    asymgrpo.algo = grpo.algo = None
    assert asymgrpo == grpo


def test_debug_tiny_changes_sizes_and_the_model_alone() -> None:
    real, tiny = (composed("experiment=paper_qwen3_4b", *more) for more in ([], ["debug=tiny"]))
    assert tiny.policy.path is None and tiny.trainer.devices == 1
    for part in ("algo", "task", "benchmarks", "data"):
        assert real[part] == tiny[part]
    assert tiny.policy.optimizer == real.policy.optimizer and tiny.rollout.group_size == 8
    for config in (real, tiny):
        prompts = config.rollout.prompts_per_iteration
        assert prompts // config.policy.prompts_per_mini_batch == 2


# ---- the dry run ----


def test_parameters_are_those_of_the_published_weights() -> None:
    for name, parameters in EXPERIMENTS.items():
        policy, shape = dry_run.meta_policy(dry_run.composed(name, 4))
        assert dry_run.count(policy) == parameters and all(p.is_meta for p in policy.parameters())
        assert shape.parameters == pytest.approx(parameters, rel=1e-3)
        assert dry_run.held(policy, 1) == 4 * parameters
        assert dry_run.held(policy, 4) == pytest.approx(parameters, rel=1e-3)
        assert dry_run.held(policy, 8) >= parameters / 2


def test_the_tables_of_the_documentation_are_current() -> None:
    table = dry_run.table(list(EXPERIMENTS), dry_run.Assumed())
    page = (ROOT / "docs" / "paper.md").read_text()
    assert table in page, "run `python benchmarks/dry_run.py`"


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_memory_and_time_in_the_file_are_those_of_the_dry_run(name: str) -> None:
    text = (config_dir() / "experiment" / f"{name}.yaml").read_text()
    said = re.findall(r"(\d+) GB on each of (\d)(?: GPUs)?, (\d+) hours", text)
    assert [gpus for _, gpus, _ in said] == ["4", "8"]
    for gb, gpus, hours in said:
        config = dry_run.composed(name, int(gpus))
        policy, shape = dry_run.meta_policy(config)
        use = dry_run.memory(config, policy, shape, gpus=int(gpus), assumed=dry_run.Assumed())
        took = dry_run.seconds(
            config, policy, shape, cache=use["cache"], gpus=int(gpus), assumed=dry_run.Assumed()
        )
        assert (int(gb), int(hours)) == (round(use["all"]), round(took["hours"]))


@pytest.mark.parametrize(
    ("name", "said"),
    [("paper_qwen3", "there is no file"), ("paper_evaluation", "policy.path=None is not known")],
)
def test_an_experiment_that_cannot_be_counted_is_told(
    name: str, said: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["dry_run.py", name])
    with pytest.raises(SystemExit) as stop:
        dry_run.main()
    assert stop.value.code == 2 and said in capsys.readouterr().err


def test_seconds_of_generating_by_hand() -> None:
    """10 completions and a cache for 5 at once, with 1 GB of keys and values per token."""
    config = composed("rollout.max_tokens=300", "rollout.max_num_seqs=8")
    heads = {"heads": 1, "kv_heads": 1, "head_dim": 250_000_000}  # 1 GB a token
    shape = Shape(hidden=1, layers=1, intermediate=1, vocabulary=1, tied=True, **heads)
    memory = {"bandwidth": 200, "bandwidth_share": 0.5}
    assumed = dry_run.Assumed(layer_seconds=0.5, response=100, prompt=100, **memory)
    # Twice 100 steps that read 2 GB of weights and 5 x (100 + 50) GB of cache, 7.52 s each;
    # then 200 steps of 0.5 s for one completion.
    sizes = {"cache": 1000.0, "completions": 10}
    took = dry_run.rollout_seconds(config, 1_000_000_000, shape, **sizes, assumed=assumed)
    assert took == pytest.approx(2 * 100 * 7.52 + 200 * 0.5)


def test_a_rank_holds_a_part_of_every_tensor_rounded_up() -> None:
    module: Any = torch.nn.Linear(3, 5)
    assert [dry_run.held(module, ranks) for ranks in (1, 2, 4)] == [4 * 20, 4 * 12, 4 * 8]
