"""Runs made before the code moved into subpackages.

Their sweep is finished, their checkpoints load, and compare.py reads them. Revision fa237ac made
``tests/support/old_runs`` with a random policy of 8,000 parameters and the command
``train.py -m algo=grpo,asymgrpo`` with ``SETTINGS``. Large files were removed, and the paths of the
folder were rewritten.
"""

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from asym_lightning.analysis.arms import group
from asym_lightning.analysis.runs import read_runs
from asym_lightning.commands.export import export
from asym_lightning.runtime.moved import MOVED
from tests.support import ROOT
from tests.support.commands import metrics, summary, train

OLD = ROOT / "tests" / "support" / "old_runs"
SETTINGS = [
    "policy.path=tests/support/old_runs/policy",
    "trainer=fsdp2",
    "trainer.accelerator=cpu",
    "trainer.precision=32-true",
    "trainer.devices=1",
    "rollout=transformers",
    "policy.prompts_per_mini_batch=4",
    "rollout.prompts_per_iteration=4",
    "rollout.group_size=4",
    "rollout.max_tokens=8",
    "task.train_size=64",
    "task.heldout_size=8",
    "callbacks.evaluation.problems=4",
    "callbacks.evaluation.samples=2",
    "callbacks.policy=null",
    "callbacks.record.save_rollouts_every=0",
]


@pytest.fixture
def sweep(tmp_path: Path) -> Path:
    return Path(shutil.copytree(OLD / "sweep", tmp_path / "sweep"))


def test_a_finished_sweep_is_finished(sweep: Path) -> None:
    before = (sweep / "grpo-seed1" / "summary.json").read_text()
    output = train(sweep, "-m", "algo=grpo,asymgrpo", *SETTINGS, "trainer.max_epochs=2")
    assert "grpo-seed1: complete, left out" in output
    assert "asymgrpo-seed1: complete, left out" in output
    assert (sweep / "grpo-seed1" / "summary.json").read_text() == before


def test_a_sweep_of_other_settings_is_still_refused(sweep: Path) -> None:
    output = train(sweep, "-m", "algo=grpo,asymgrpo", *SETTINGS, "trainer.max_epochs=3", status=2)
    assert "holds a complete run of other settings (trainer.max_epochs=2 there, 3 here)" in output


def test_a_checkpoint_goes_on(sweep: Path, tmp_path: Path) -> None:
    checkpoint = f"ckpt_path={sweep}/grpo-seed1/checkpoints/last.ckpt"
    train(tmp_path / "on", "algo=grpo", *SETTINGS, "trainer.max_epochs=3", checkpoint)
    assert summary(tmp_path / "on")["status"] == "done"
    assert list(metrics(tmp_path / "on").index) == [2]


def test_a_checkpoint_is_exported(
    sweep: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ROOT)
    export(sweep / "grpo-seed1" / "checkpoints" / "last.ckpt", tmp_path / "policy")
    old = load_file(OLD / "policy" / "model.safetensors")
    new = load_file(tmp_path / "policy" / "model.safetensors")
    # The run earned no reward, so its weights are still those of the policy.
    assert old.keys() == new.keys() and all(torch.equal(old[name], new[name]) for name in old)


def test_compare_puts_an_old_run_beside_the_same_of_today(sweep: Path) -> None:
    """A class that has moved does not put a run into another arm."""
    again = sweep / "grpo-seed2"
    shutil.copytree(sweep / "grpo-seed1", again)
    old_name = "asym_lightning.sharding.FSDP2"
    text = (again / "summary.json").read_text().replace(f'"{old_name}"', f'"{MOVED[old_name]}"')
    known = json.loads(text)
    known["seed"] = known["config"]["seed"] = 2
    (again / "summary.json").write_text(json.dumps(known))
    runs, left_out = read_runs([sweep])
    assert len(runs) == 3 and not left_out
    assert sorted(map(len, group(runs))) == [1, 2]
