"""Sweeps as commands: crashes, what a second start does, Ctrl-C, launchers, search and loggers."""

import re
import signal
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest
from hydra.core.hydra_config import HydraConfig
from omegaconf import OmegaConf

from asym_lightning.commands.cli import entry
from asym_lightning.learner.embedded import EmbeddedSettings, embedded_policy
from tests.support import ROOT
from tests.support.commands import SMALL, start, summary, train
from tests.support.runs import few_problems
from tests.support.sweeps import TINY, rows, state


@pytest.fixture(scope="module")
def untrained(tmp_path_factory: pytest.TempPathFactory) -> str:
    """An override: a policy that solves nothing."""
    folder = embedded_policy(EmbeddedSettings(steps=2), tmp_path_factory.mktemp("cache"))
    return f"policy.path={folder}"


@pytest.fixture
def mine(tmp_path: Path) -> Path:
    """A folder with a method that fails in training while the file ``breaks`` exists.

    On two ranks it fails on the second alone.
    """
    folder = tmp_path / "mine"
    (folder / "algo").mkdir(parents=True)
    (folder / "breaks").touch()
    (folder / "frail.py").write_text(
        textwrap.dedent(f"""
        import os
        from pathlib import Path

        def advantage(rewards):
            training = rewards.shape[0] > 1
            breaks = Path({str(folder / "breaks")!r}).exists()
            if training and breaks and os.environ.get("LOCAL_RANK", "1") == "1":
                raise RuntimeError("it is\\nbroken")
            return rewards - 0.5
        """)
    )
    parts = {"loss": "ppo_clip", "aggregation": "token_mean", "modulation": "none"}
    defaults = "".join(f"  - /{part}@{part}: {choice}\n" for part, choice in parts.items())
    body = (
        "_target_: asym_lightning.algorithms.Algorithm\n"
        "name: frail\n"
        "advantage:\n"
        "  _target_: frail.advantage\n"
        "  _partial_: true\n"
    )
    (folder / "algo" / "frail.yaml").write_text(f"defaults:\n{defaults}  - _self_\n{body}")
    return folder


def test_a_crash_ends_one_run_and_a_second_start_runs_what_is_missing(
    untrained: str,
    mine: Path,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    logs = tmp_path / "logs"
    given = (f"--config-dir={mine}", "-m", "algo=grpo,frail,reinforce")
    (logs / "reinforce-seed1").mkdir(parents=True)
    (logs / "reinforce-seed1" / "metrics.csv").write_text("step,reward/mean\n7,0.5\n")
    output = train(logs, untrained, *TINY, *given, status=1)
    assert output.endswith(
        "1 of this sweep's runs failed; the same command starts them again\n"
        "  frail-seed1: RuntimeError: it is broken\n"
    )
    folders = [logs / f"{name}-seed1" for name in ("grpo", "frail", "reinforce")]
    assert [summary(folder)["status"] for folder in folders] == ["done", "failed", "done"]
    assert len(rows(logs / "reinforce-seed1")) == 2
    assert (logs / ".unfinished" / "reinforce-seed1-1" / "metrics.csv").exists()

    (mine / "breaks").unlink()
    before = state(logs / "grpo-seed1")
    # Run this command in the test's process: joblib starts no process from a forked one.
    again = (
        *given,
        "algo=grpo,frail",
        "seed=1,2",
        "hydra/launcher=joblib",
        untrained,
        *SMALL,
        *TINY,
        *few_problems(given),
        f"hydra.sweep.dir={logs}",
    )
    monkeypatch.setattr(sys, "argv", [str(ROOT / "train.py"), *again])
    capfd.readouterr()
    entry("train", "asym_lightning.commands.train:train")
    output = "".join(capfd.readouterr())
    HydraConfig.instance().cfg = None
    assert "grpo-seed1: complete, left out" in output
    assert "frail-seed1: starts anew" in output
    assert "deprecated" not in output
    assert state(logs / "grpo-seed1") == before
    done = {path.parent.name: summary(path.parent) for path in logs.glob("*/summary.json")}
    seeds = ["frail-seed1", "frail-seed2", "grpo-seed1", "grpo-seed2", "reinforce-seed1"]
    assert sorted(done) == seeds
    for name, run in done.items():
        assert run["status"] == "done" and f"{run['algorithm']}-seed{run['seed']}" == name
        assert len(rows(logs / name)) == 2


def test_a_rank_that_fails_ends_its_run_alone(untrained: str, mine: Path, tmp_path: Path) -> None:
    given = (f"--config-dir={mine}", "-m", "algo=frail,reinforce", "trainer.devices=2")
    told = (
        r"rank 1 failed \(phase learn, iteration 0\): RuntimeError: it is broken; "
        r"rank 0 \w+ in learn, iteration 0.*\n"
    )
    output = train(tmp_path / "logs", untrained, *TINY, *given, status=1)
    assert re.search(rf"\nerror: {told}", output), output
    assert re.search(rf"\n  frail-seed1: {told}$", output), output
    other = tmp_path / "logs" / "reinforce-seed1"
    assert summary(other)["status"] == "done"
    assert len(list((other / "rollouts").glob("*rank-1.parquet"))) == 2


def test_ctrl_c_ends_the_whole_sweep(untrained: str, tmp_path: Path) -> None:
    endless = (*TINY, "trainer.max_epochs=100000", f"hydra.sweep.dir={tmp_path}")
    running = start("-m", "algo=grpo,reinforce", *SMALL, untrained, *endless)
    assert running.wait_for(lambda: len(list(tmp_path.glob("*/rollouts/*"))) >= 2, timeout=200), (
        running.output
    )
    running.send_signal(signal.SIGINT)
    status, output = running.wait(100), running.output
    assert status == 130 and "Traceback" not in output, output[-5000:]
    assert summary(tmp_path / "grpo-seed1")["status"] == "interrupted"
    assert not (tmp_path / "reinforce-seed1").exists()


def test_jobs_of_their_own_write_to_one_mlflow_store(
    untrained: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mlflow import MlflowClient

    store = f"sqlite:///{tmp_path / 'mlflow.db'}"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", store)
    logs = tmp_path / "logs"
    jobs = ("algo=grpo,reinforce", "hydra/launcher=submitit_local", "logger=mlflow")
    train(logs, untrained, *TINY, "-m", *jobs)
    names = ["grpo-seed1", "reinforce-seed1"]
    assert sorted(path.parent.name for path in logs.glob("*/summary.json")) == names
    client = MlflowClient(store)
    experiment = client.get_experiment_by_name("asym-lightning")
    assert experiment is not None
    runs = {run.info.run_name: run for run in client.search_runs([experiment.experiment_id])}
    assert sorted(runs) == names
    for name, run in runs.items():
        assert run.info.status == "FINISHED"
        assert run.data.params["algo.name"] == summary(logs / name)["algorithm"]
        history = client.get_metric_history(run.info.run_id, "entropy/policy")
        written = [float(row["entropy/policy"]) for row in rows(logs / name)]
        assert [metric.value for metric in history] == pytest.approx(written)
        assert len(history) == 2
        assert "eval/heldout/pass8" in run.data.metrics
        assert not (logs / name / "tensorboard").exists()


def test_a_search_finds_the_best_and_takes_up_where_it_was(untrained: str, tmp_path: Path) -> None:
    # In a separate process: wandb keeps for good whether it was online when it was first asked.
    given = (
        "sweep=optuna_exponents",
        untrained,
        *TINY,
        "logger=wandb",
        "logger.wandb.offline=true",
    )
    train(tmp_path, *given, "hydra.sweeper.n_trials=2")
    found = {path.parent: summary(path.parent) for path in tmp_path.glob("*/summary.json")}
    values = [s["evaluation"]["after"]["eval/heldout/pass@8"] for s in found.values()]
    results: Any = OmegaConf.load(tmp_path / "optimization_results.yaml")
    assert len(found) == 2 and results.best_value == max(values)
    advantages = [s["config"]["algo"]["advantage"] for s in found.values()]
    tried = [
        {f"algo.advantage.{k}": advantage[k] for k in ("beta_pos", "beta_neg")}
        for advantage in advantages
    ]
    assert results.best_params in tried
    for folder in found:
        logs = list(folder.glob("wandb/offline-run-*/*.wandb"))
        assert len(logs) == 1
        assert logs[0].read_bytes().count(b"reward/mean") >= 2
        assert len(rows(folder)) == 2
    before = {folder: state(folder / "policy") for folder in found}
    output = train(tmp_path, *given, "hydra.sweeper.n_trials=3")
    assert output.count("complete, left out") == 2
    assert len(list(tmp_path.glob("*/summary.json"))) == 3
    assert {folder: state(folder / "policy") for folder in found} == before
