"""Sweeps: their runs and folders, what a second start does, crashes, Ctrl-C, launchers, search and loggers."""

import csv
import hashlib
import json
import re
import signal
import sys
import textwrap
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hydra import initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import OmegaConf

from asym_lightning.cli import config_dir, entry
from asym_lightning.embedded import EmbeddedSettings, embedded_policy
from asym_lightning.runfolder import claim, complete, differences, going_on, note_failure, set_aside, settings, why_incomplete
from asym_lightning.sweeps import Sweep, check_same, quoted, run_name
from asym_lightning.types import ConfigError
from tests.commands import SMALL, start, summary, train
from tests.conftest import ROOT

TINY = ("rollout=transformers", "trainer.max_epochs=2", "callbacks.ledger=null")


@pytest.fixture(scope="module")
def policy(tmp_path_factory: pytest.TempPathFactory) -> str:
    return f"policy.path={embedded_policy(EmbeddedSettings(steps=2), tmp_path_factory.mktemp('cache'))}"


@pytest.fixture(autouse=True)
def forget() -> Any:
    yield
    HydraConfig.instance().cfg = None


def planned(*overrides: str, chosen: Callable[[list[list[str]]], list[list[str]]] | None = None) -> tuple[Sweep, list[Any]]:
    """The sweep of a command line and the configs of its runs, or of those that are ``chosen``."""
    with initialize_config_dir(str(config_dir()), version_base="1.3"):
        app = GlobalHydra.instance().hydra
        assert app is not None
        master = app.compose_config("train", list(overrides), RunMode.MULTIRUN, with_log_configuration=False)
        sweep = Sweep.of(master)
        sweep.jobs = chosen(sweep.jobs) if chosen else sweep.jobs
        return sweep, sweep.configs(app.config_loader, master)


def names(*overrides: str) -> list[str]:
    return [folder.name for folder in planned(*overrides)[0].folders]


def test_folders_are_named_by_what_varies() -> None:
    assert names("algo=grpo,asymgrpo", "seed=1,2", "trainer.max_epochs=9") == [
        "grpo-seed1",
        "grpo-seed2",
        "asymgrpo-seed1",
        "asymgrpo-seed2",
    ]
    assert names("algo=grpo") == ["grpo-seed1"]
    rate = "policy.optimizer.learning_rate"
    assert names("algo=grpo", f"{rate}=1e-4,3e-4") == [f"grpo-seed1,{rate}=0.0001", f"grpo-seed1,{rate}=0.0003"]
    assert (
        names("loss@algo.loss=gspo,cispo", "rollout.temperature=1,0.5")[1] == "asymgrpo-seed1,loss@algo.loss=gspo,rollout.temperature=0.5"
    )
    assert names("policy.path=/a/b,/c") == ["asymgrpo-seed1,policy.path=_a_b", "asymgrpo-seed1,policy.path=_c"]
    assert run_name("asymgrpo", 2, "algo.advantage.beta_pos=0.9507143064099162") == "asymgrpo-seed2,algo.advantage.beta_pos=0.950714"
    long = [run_name("grpo", 1, f"policy.path={'/x' * 200}{i}") for i in range(2)]
    assert long[0] != long[1] and all(len(name) < 200 for name in long)


def test_a_file_names_the_runs_and_the_command_line_can_change_them() -> None:
    table = names("sweep=paper_table")
    assert len(table) == 21 and table[0] == "reinforce-seed1" and table[-1] == "asymgrpo_clip_higher-seed3"
    assert names("sweep=paper_table", "algo=grpo", "seed=1,2") == ["grpo-seed1", "grpo-seed2"]


def test_of_a_search_the_ends_of_its_ranges_are_checked() -> None:
    sweep, configs = planned("sweep=optuna_exponents", "algo=asymgrpo_clip_higher,asymgrpo", "algo.rules.overlong_share=0,0.1,0.2")
    assert not sweep.listed and sweep.searched == [
        "algo.advantage.beta_pos",
        "algo.advantage.beta_neg",
        "algo",
        "algo.rules.overlong_share",
    ]
    assert [c.algo.advantage.beta_pos for c in configs] == [0, 1.5, 0] and [c.algo.rules.overlong_share for c in configs] == [0, 0.1, 0.2]
    assert [c.algo.name for c in configs] == ["asymgrpo_clip_higher", "asymgrpo", "asymgrpo_clip_higher"]


@pytest.mark.parametrize("text", ["plain", "with space, comma=1", "it's", "back\\slash", "end\\", "a\\'b"])
def test_a_quoted_string_is_read_back(text: str) -> None:
    from hydra.core.override_parser.overrides_parser import OverridesParser

    assert OverridesParser.create().parse_override(f"key={quoted(text)}").value() == text


def finished(folder: Path, config: Any, **changes: Any) -> None:
    """A complete run of ``config`` in ``folder``, as far as a sweep looks."""
    folder.mkdir(parents=True)
    tree: Any = OmegaConf.to_container(OmegaConf.masked_copy(config, [k for k in config if k != "hydra"]), resolve=True)
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
    assert check_same(sweep.folders[0], configs[0]) and not check_same(tmp_path / "elsewhere", configs[0])
    assert not [key for key in settings(configs[0]) if "dirpath" in key or "folder" in key or "save_dir" in key]
    with pytest.raises(ConfigError, match=r"grpo-seed1 holds a complete run of other settings \(seed=1 there, 2 here\)"):
        check_same(sweep.folders[0], OmegaConf.merge(configs[0], {"seed": 2}))
    old = (complete(sweep.folders[0]) or {})["config"]
    assert differences(old, OmegaConf.merge(configs[0], {"seed": 2}), ["seed"]) == []
    sweep, configs = planned(*command, f"hydra.sweep.dir={tmp_path / 'new'}", "trainer.max_epochs=3")
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
    sweep, configs = planned("algo=grpo,rloo", f"hydra.sweep.dir={tmp_path}", "hydra.sweep.subdir=same")
    with pytest.raises(ConfigError, match=r"two different runs would go to .*same"):
        sweep.check(configs)
    sweep, configs = planned("seed=1,1", f"hydra.sweep.dir={tmp_path}")
    sweep.check(configs)
    with claim(sweep.folders[0]):
        assert going_on(sweep.folders[0])
        with pytest.raises(ConfigError, match="another process is running"):
            sweep.check(configs)
    assert not going_on(sweep.folders[0])


def test_what_an_unfinished_run_left_is_kept_apart(tmp_path: Path) -> None:
    folder = tmp_path / "grpo-seed1"
    for content in ("one", "two"):
        (folder / ".hydra").mkdir(parents=True, exist_ok=True)
        (folder / "metrics.csv").write_text(content)
        assert set_aside(folder) is not None
    assert set_aside(folder) is None and [path.name for path in folder.iterdir()] == [".hydra"]
    assert [(tmp_path / ".unfinished" / f"grpo-seed1-{i}" / "metrics.csv").read_text() for i in (1, 2)] == ["one", "two"]
    assert why_incomplete(folder) == "it left no summary.json: its process was ended, or it never started"
    config = OmegaConf.create({"algo": {"name": "grpo"}, "seed": 1})
    note_failure(folder, config, "RuntimeError: first")
    note_failure(folder, config, "RuntimeError: of the first")
    assert why_incomplete(folder) == "RuntimeError: first" and summary(folder)["status"] == "failed" and not complete(folder)


@pytest.fixture
def mine(tmp_path: Path) -> Path:
    """A folder with a method of its own, which breaks in training as long as a file says so; on two ranks, on the second alone."""
    folder = tmp_path / "mine"
    (folder / "algo").mkdir(parents=True)
    (folder / "breaks").touch()
    (folder / "frail.py").write_text(
        textwrap.dedent(f"""
        import os
        from pathlib import Path

        def advantage(rewards):
            training = rewards.shape[0] > 1
            if training and Path({str(folder / "breaks")!r}).exists() and os.environ.get("LOCAL_RANK", "1") == "1":
                raise RuntimeError("it is\\nbroken")
            return rewards - 0.5
        """)
    )
    parts = {"loss": "ppo_clip", "aggregation": "token_mean", "modulation": "none"}
    defaults = "".join(f"  - /{part}@{part}: {choice}\n" for part, choice in parts.items())
    body = "_target_: asym_lightning.algorithms.Algorithm\nname: frail\nadvantage:\n  _target_: frail.advantage\n  _partial_: true\n"
    (folder / "algo" / "frail.yaml").write_text(f"defaults:\n{defaults}  - _self_\n{body}")
    return folder


@pytest.fixture
def command(policy: str, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Callable[..., str]:
    """`train.py` with tiny runs within this process; its exit status is checked, its output returned."""

    def started(logs: Path, *arguments: str, status: int = 0) -> str:
        monkeypatch.setattr(sys, "path", [*sys.path])
        monkeypatch.setattr(sys, "argv", [str(ROOT / "train.py"), *arguments, policy, *SMALL, *TINY, f"hydra.sweep.dir={logs}"])
        capfd.readouterr()
        try:
            entry("train", "asym_lightning.run:train")
            ended: Any = 0
        except SystemExit as stop:
            ended = stop.code
        output = "".join(capfd.readouterr())
        assert ended == status, output[-5000:]
        return output

    return started


def state(folder: Path) -> dict[str, str]:
    """The content of every file below ``folder``."""
    return {str(path): hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.rglob("*") if path.is_file()}


def rows(folder: Path) -> list[dict[str, str]]:
    with (folder / "metrics.csv").open() as file:
        return [row for row in csv.DictReader(file) if row["reward/mean"]]


def test_a_crash_ends_one_run_and_a_second_start_runs_what_is_missing(command: Callable[..., str], mine: Path, tmp_path: Path) -> None:
    logs = tmp_path / "logs"
    given = (f"--config-dir={mine}", "-m", "algo=grpo,frail,reinforce")
    (logs / "reinforce-seed1").mkdir(parents=True)
    (logs / "reinforce-seed1" / "metrics.csv").write_text("step,reward/mean\n7,0.5\n")
    output = command(logs, *given, status=1)
    assert output.endswith("1 of this sweep's runs failed; the same command starts them again\n  frail-seed1: RuntimeError: it is broken\n")
    assert [summary(logs / f"{name}-seed1")["status"] for name in ("grpo", "frail", "reinforce")] == ["done", "failed", "done"]
    assert len(rows(logs / "reinforce-seed1")) == 2 and (logs / ".unfinished" / "reinforce-seed1-1" / "metrics.csv").exists()

    (mine / "breaks").unlink()
    before = state(logs / "grpo-seed1")
    output = command(logs, *given, "algo=grpo,frail", "seed=1,2", "hydra/launcher=joblib")
    assert "grpo-seed1: complete, left out" in output and "frail-seed1: starts anew" in output and "deprecated" not in output
    assert state(logs / "grpo-seed1") == before
    done = {path.parent.name: summary(path.parent) for path in logs.glob("*/summary.json")}
    assert sorted(done) == ["frail-seed1", "frail-seed2", "grpo-seed1", "grpo-seed2", "reinforce-seed1"]
    assert all(s["status"] == "done" and f"{s['algorithm']}-seed{s['seed']}" == name for name, s in done.items())
    assert all(len(rows(logs / name)) == 2 for name in done)


def test_a_rank_that_fails_ends_its_run_alone(command: Callable[..., str], mine: Path, tmp_path: Path) -> None:
    given = (f"--config-dir={mine}", "-m", "algo=frail,reinforce", "trainer.devices=2")
    told = r"rank 1 failed \(phase learn, iteration 0\): RuntimeError: it is broken; rank 0 \w+ in learn, iteration 0.*\n"
    output = command(tmp_path / "logs", *given, status=1)
    assert re.search(rf"\nerror: {told}", output) and re.search(rf"\n  frail-seed1: {told}$", output), output
    assert summary(tmp_path / "logs" / "reinforce-seed1")["status"] == "done"
    assert len(list((tmp_path / "logs" / "reinforce-seed1" / "rollouts").glob("*rank-1.parquet"))) == 2


def test_ctrl_c_ends_the_whole_sweep(policy: str, tmp_path: Path) -> None:
    endless = (*TINY, "trainer.max_epochs=100000", f"hydra.sweep.dir={tmp_path}")
    running = start("-m", "algo=grpo,reinforce", *SMALL, policy, *endless)
    deadline = time.time() + 200
    while len(list(tmp_path.glob("*/rollouts/*"))) < 2 and running.poll() is None and time.time() < deadline:
        time.sleep(0.2)
    running.send_signal(signal.SIGINT)
    output = running.communicate(timeout=100)[0]
    assert running.returncode == 130 and "Traceback" not in output, output[-5000:]
    assert summary(tmp_path / "grpo-seed1")["status"] == "interrupted" and not (tmp_path / "reinforce-seed1").exists()


def test_jobs_of_their_own_write_to_one_mlflow_store(command: Callable[..., str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from mlflow import MlflowClient

    store = f"sqlite:///{tmp_path / 'mlflow.db'}"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", store)
    logs = tmp_path / "logs"
    monkeypatch.chdir(ROOT)  # jobs take the package from here
    command(logs, "-m", "algo=grpo,reinforce", "hydra/launcher=submitit_local", "logger=mlflow")
    assert sorted(path.parent.name for path in logs.glob("*/summary.json")) == ["grpo-seed1", "reinforce-seed1"]
    client = MlflowClient(store)
    experiment = client.get_experiment_by_name("asym-lightning")
    assert experiment is not None
    runs = {run.info.run_name: run for run in client.search_runs([experiment.experiment_id])}
    assert sorted(runs) == ["grpo-seed1", "reinforce-seed1"]
    for name, run in runs.items():
        assert run.info.status == "FINISHED" and run.data.params["algo.name"] == summary(logs / name)["algorithm"]
        logged = [metric.value for metric in client.get_metric_history(run.info.run_id, "entropy/policy")]
        assert logged == pytest.approx([float(row["entropy/policy"]) for row in rows(logs / name)]) and len(logged) == 2
        assert "eval/heldout/pass8" in run.data.metrics and not (logs / name / "tensorboard").exists()


def test_a_search_finds_the_best_and_takes_up_where_it_was(policy: str, tmp_path: Path) -> None:
    # in a process of its own: wandb keeps for good whether it was online when it was first asked
    given = ("sweep=optuna_exponents", policy, *TINY, "logger=wandb", "logger.wandb.offline=true")
    train(tmp_path, *given, "hydra.sweeper.n_trials=2")
    found = {path.parent: summary(path.parent) for path in tmp_path.glob("*/summary.json")}
    values = [s["evaluation"]["after"]["eval/heldout/pass@8"] for s in found.values()]
    results: Any = OmegaConf.load(tmp_path / "optimization_results.yaml")
    assert len(found) == 2 and results.best_value == max(values)
    assert results.best_params in [
        {f"algo.advantage.{k}": s["config"]["algo"]["advantage"][k] for k in ("beta_pos", "beta_neg")} for s in found.values()
    ]
    for folder in found:
        logs = list(folder.glob("wandb/offline-run-*/*.wandb"))
        assert len(logs) == 1 and logs[0].read_bytes().count(b"reward/mean") >= 2 and len(rows(folder)) == 2
    before = {folder: state(folder / "policy") for folder in found}
    output = train(tmp_path, *given, "hydra.sweeper.n_trials=3")
    assert output.count("complete, left out") == 2 and len(list(tmp_path.glob("*/summary.json"))) == 3
    assert {folder: state(folder / "policy") for folder in found} == before


SCORED: list[tuple[str, str]] = []


def score(config: Any) -> float:
    SCORED.append((config.policy.path, HydraConfig.get().runtime.output_dir))
    return 0.0


def accept(configs: Any) -> None:
    assert [config.policy.path for config in configs] == ["one", "two"]


def test_several_evaluations_are_hydras_own(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(sys, "argv", ["evaluate.py", "-m", "policy.path=one,two", f"hydra.sweep.dir={tmp_path}"])
    entry("evaluate", "tests.test_sweeps:score", "tests.test_sweeps:accept")
    assert [("one", str(tmp_path / "0")), ("two", str(tmp_path / "1"))] == SCORED
