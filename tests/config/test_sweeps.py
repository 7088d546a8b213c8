"""Sweeps: their runs and folders, and what a second start finds."""

import json
import sys
from pathlib import Path
from typing import Any

import pytest
from hydra.core.hydra_config import HydraConfig
from omegaconf import OmegaConf

from asym_lightning.commands.cli import entry
from asym_lightning.commands.sweeps import check_same, quoted
from asym_lightning.runtime.resolvers import run_name
from asym_lightning.runtime.run_folder import (
    claim,
    complete,
    differences,
    in_progress,
    note_failure,
    set_aside,
    settings,
    why_incomplete,
)
from asym_lightning.types import ConfigError
from tests.support.commands import summary
from tests.support.configs import planned


@pytest.fixture(autouse=True)
def forget() -> Any:
    yield
    HydraConfig.instance().cfg = None


def names(*overrides: str) -> list[str]:
    return [folder.name for folder in planned(*overrides)[0].folders]


def test_folders_are_named_by_what_varies() -> None:
    found = names("algo=grpo,asymgrpo", "seed=1,2", "trainer.max_epochs=9")
    assert found == ["grpo-seed1", "grpo-seed2", "asymgrpo-seed1", "asymgrpo-seed2"]
    assert names("algo=grpo") == ["grpo-seed1"]
    rate = "policy.optimizer.learning_rate"
    found = names("algo=grpo", f"{rate}=1e-4,3e-4")
    assert found == [f"grpo-seed1,{rate}=0.0001", f"grpo-seed1,{rate}=0.0003"]
    _, second, *_ = names("loss@algo.loss=gspo,cispo", "rollout.temperature=1,0.5")
    assert second == "asymgrpo-seed1,loss@algo.loss=gspo,rollout.temperature=0.5"
    found = names("policy.path=/a/b,/c")
    assert found == ["asymgrpo-seed1,policy.path=_a_b", "asymgrpo-seed1,policy.path=_c"]
    name = run_name("asymgrpo", 2, "algo.advantage.beta_pos=0.9507143064099162")
    assert name == "asymgrpo-seed2,algo.advantage.beta_pos=0.950714"
    long = [run_name("grpo", 1, f"policy.path={'/x' * 200}{i}") for i in range(2)]
    assert long[0] != long[1] and all(len(name) < 200 for name in long)


def test_a_file_names_the_runs_and_the_command_line_can_change_them() -> None:
    table = names("sweep=paper_table")
    assert len(table) == 21
    assert table[0] == "reinforce-seed1"
    assert table[-1] == "asymgrpo_clip_higher-seed3"
    assert names("sweep=paper_table", "algo=grpo", "seed=1,2") == ["grpo-seed1", "grpo-seed2"]


def test_of_a_search_the_ends_of_its_ranges_are_checked() -> None:
    choices = ("algo=asymgrpo_clip_higher,asymgrpo", "algo.rules.overlong_share=0,0.1,0.2")
    sweep, configs = planned("sweep=optuna_exponents", *choices)
    assert not sweep.listed
    exponents = ["algo.advantage.beta_pos", "algo.advantage.beta_neg"]
    assert sweep.searched == [*exponents, "algo", "algo.rules.overlong_share"]
    assert [c.algo.advantage.beta_pos for c in configs] == [0, 1.5, 0]
    assert [c.algo.rules.overlong_share for c in configs] == [0, 0.1, 0.2]
    methods = [c.algo.name for c in configs]
    assert methods == ["asymgrpo_clip_higher", "asymgrpo", "asymgrpo_clip_higher"]


@pytest.mark.parametrize(
    "text", ["plain", "with space, comma=1", "it's", "back\\slash", "end\\", "a\\'b"]
)
def test_a_quoted_string_is_read_back(text: str) -> None:
    from hydra.core.override_parser.overrides_parser import OverridesParser

    assert OverridesParser.create().parse_override(f"key={quoted(text)}").value() == text


def finished(folder: Path, config: Any, **changes: Any) -> None:
    """Write the parts of a complete run of ``config`` that a sweep reads."""
    folder.mkdir(parents=True)
    own = OmegaConf.masked_copy(config, [key for key in config if key != "hydra"])
    tree: Any = OmegaConf.to_container(own, resolve=True)
    (folder / "summary.json").write_text(json.dumps({"status": "done", "config": tree | changes}))


def test_a_complete_run_is_known_again_wherever_its_folder_is(tmp_path: Path) -> None:
    command = ("algo=grpo,reinforce", "seed=1")
    sweep, configs = planned(*command, f"hydra.sweep.dir={tmp_path / 'old'}")
    for folder, config in zip(sweep.folders, configs, strict=True):
        HydraConfig.instance().set_config(config)
        finished(folder, config)
    (tmp_path / "old").rename(tmp_path / "new")
    sweep, configs = planned(*command, f"hydra.sweep.dir={tmp_path / 'new'}")
    sweep.check(configs)
    HydraConfig.instance().set_config(configs[0])
    assert check_same(sweep.folders[0], configs[0])
    assert not check_same(tmp_path / "elsewhere", configs[0])
    for key in settings(configs[0]):
        assert not any(word in key for word in ("dirpath", "folder", "save_dir"))
    message = r"grpo-seed1 holds a complete run of other settings \(seed=1 there, 2 here\)"
    with pytest.raises(ConfigError, match=message):
        check_same(sweep.folders[0], OmegaConf.merge(configs[0], {"seed": 2}))
    old = (complete(sweep.folders[0]) or {})["config"]
    assert differences(old, OmegaConf.merge(configs[0], {"seed": 2}), ["seed"]) == []
    folder = f"hydra.sweep.dir={tmp_path / 'new'}"
    sweep, configs = planned(*command, folder, "trainer.max_epochs=3")
    with pytest.raises(ConfigError, match=r"trainer\.max_epochs=250 there, 3 here"):
        sweep.check(configs)


def test_a_search_may_not_mix_with_other_settings(tmp_path: Path) -> None:
    search = ("sweep=optuna_exponents", f"hydra.sweep.dir={tmp_path}")
    _, configs = planned(*search, "algo.advantage.beta_pos=0.3")
    HydraConfig.instance().set_config(configs[0])
    finished(tmp_path / "asymgrpo-seed1,some=trial", configs[0])
    sweep, configs = planned(*search)
    sweep.check(configs)
    sweep, configs = planned(*search, "seed=2")
    with pytest.raises(ConfigError, match="seed=1 there, 2 here"):
        sweep.check(configs)


def test_runs_that_would_meet_in_a_folder_are_refused(tmp_path: Path) -> None:
    folders = (f"hydra.sweep.dir={tmp_path}", "hydra.sweep.subdir=same")
    sweep, configs = planned("algo=grpo,rloo", *folders)
    with pytest.raises(ConfigError, match=r"two different runs would go to .*same"):
        sweep.check(configs)
    sweep, configs = planned("seed=1,1", f"hydra.sweep.dir={tmp_path}")
    sweep.check(configs)
    with claim(sweep.folders[0]):
        assert in_progress(sweep.folders[0])
        with pytest.raises(ConfigError, match="another process is running"):
            sweep.check(configs)
    assert not in_progress(sweep.folders[0])


def test_what_an_unfinished_run_left_is_kept_apart(tmp_path: Path) -> None:
    folder = tmp_path / "grpo-seed1"
    for content in ("one", "two"):
        (folder / ".hydra").mkdir(parents=True, exist_ok=True)
        (folder / "metrics.csv").write_text(content)
        assert set_aside(folder) is not None
    assert set_aside(folder) is None and [path.name for path in folder.iterdir()] == [".hydra"]
    for i, content in ((1, "one"), (2, "two")):
        kept = tmp_path / ".unfinished" / f"grpo-seed1-{i}"
        assert (kept / "metrics.csv").read_text() == content
    reason = "it left no summary.json: its process was ended, or it never started"
    assert why_incomplete(folder) == reason
    config = OmegaConf.create({"algo": {"name": "grpo"}, "seed": 1})
    note_failure(folder, config, "RuntimeError: first")
    note_failure(folder, config, "RuntimeError: of the first")
    assert why_incomplete(folder) == "RuntimeError: first"
    assert summary(folder)["status"] == "failed"
    assert not complete(folder)


SCORED: list[tuple[str, str]] = []


def score(config: Any) -> float:
    SCORED.append((config.policy.path, HydraConfig.get().runtime.output_dir))
    return 0.0


def accept(configs: Any) -> None:
    assert [config.policy.path for config in configs] == ["one", "two"]


def test_several_evaluations_are_hydras_own(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    overrides = ["policy.path=one,two", f"hydra.sweep.dir={tmp_path}"]
    monkeypatch.setattr(sys, "argv", ["evaluate.py", "-m", *overrides])
    entry("evaluate", "tests.config.test_sweeps:score", "tests.config.test_sweeps:accept")
    assert [("one", str(tmp_path / "0")), ("two", str(tmp_path / "1"))] == SCORED
