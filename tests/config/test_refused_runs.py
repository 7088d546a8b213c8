"""Runs that cannot start: checkpoints, ranks, sweep files, missing packages, folders, data."""

import json
import re
import sys
from pathlib import Path

import pytest
import torch
from hydra.core.config_store import ConfigStore
from hydra.core.plugins import Plugins

from asym_lightning.learner.embedded import EmbeddedSettings, build_model, byte_tokenizer
from tests.support.refusals import refusal

ZERO = "trainer=deepspeed trainer.accelerator=cpu"


@pytest.mark.parametrize(
    ("overrides", "why"),
    [
        ("trainer=cpu", "trainer=deepspeed wrote it, in parts, and only trainer=deepspeed resumes"),
        (ZERO, r"trainer\.strategy\.stage=2: ckpt_path=.* is of stage 3"),
        (
            f"{ZERO} trainer.strategy.stage=3 trainer.devices=4",
            r"4 ranks cannot go on from ckpt_path=.*, which 2 wrote",
        ),
    ],
)
def test_a_checkpoint_in_parts_is_for_the_trainer_that_wrote_it(
    overrides: str,
    why: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    parts = tmp_path / "last.ckpt" / "checkpoint"
    parts.mkdir(parents=True)
    for rank in range(2):
        for kind in ("model", "optim"):
            (parts / f"zero_pp_rank_{rank}_mp_rank_00_{kind}_states.pt").touch()
    line = refusal(capsys, monkeypatch, tmp_path, *overrides.split(), f"ckpt_path={parts.parent}")
    assert re.search(why, line), line


@pytest.mark.parametrize(
    "variables",
    [
        {"TORCHELASTIC_RUN_ID": "1", "LOCAL_RANK": "0", "RANK": "0"},
        {"SLURM_NTASKS": "2", "SLURM_PROCID": "0"},
    ],
)
def test_ranks_that_start_by_themselves_need_a_common_folder(
    variables: dict[str, str],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    for key, value in variables.items():
        monkeypatch.setenv(key, value)
    line = refusal(capsys, monkeypatch, tmp_path, "trainer.devices=2")
    assert "hydra.run.dir is not given" in line
    (tmp_path / "2").mkdir()
    overrides = ("hydra.run.dir=here", "rollout.group_size=0")
    line = refusal(capsys, monkeypatch, tmp_path / "2", *overrides)
    assert "rollout.group_size=0" in line, "one rank of a machine checks the configuration"


def test_a_sweep_file_of_ones_own(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "mine" / "sweep").mkdir(parents=True)
    file = tmp_path / "mine" / "sweep" / "temperatures.yaml"
    file.write_text(
        "# @package _global_\nhydra:\n  sweeper:\n    params:\n      rollout.temperature: 1.0,0\n"
    )
    command = ("--config-dir", str(tmp_path / "mine"), "-m", "sweep=temperatures")
    line = refusal(capsys, monkeypatch, tmp_path, *command)
    assert "rollout.temperature=0: must be" in line


# Overrides -> a missing module, the message.
WANDB = r"logger\.wandb: .*WandbLogger needs wandb, .*pip install -e '\.\[loggers\]'"
JOBLIB = r"hydra/launcher: .*Joblib.*\[sweep\]"
SLURM = r"hydra/launcher: .*Slurm.*\[sweep\]"
ABSENT = {
    "logger=wandb": ("wandb", WANDB),
    "logger=mlflow": ("mlflow", r"logger\.mlflow: .* needs mlflow, .*\[loggers\]"),
    "-m hydra/launcher=joblib": ("hydra_plugins.hydra_joblib_launcher", JOBLIB),
    "-m hydra/launcher=submitit_slurm": ("hydra_plugins.hydra_submitit_launcher", SLURM),
}


@pytest.mark.parametrize("given", ABSENT)
def test_what_is_not_installed(
    given: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    Plugins.instance()
    module, message = ABSENT[given]
    # None in the place of a module makes its import fail.
    monkeypatch.setitem(sys.modules, module, None)
    assert re.search(message, refusal(capsys, monkeypatch, tmp_path, *given.split()))


def test_a_search_without_its_plugin(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    Plugins.instance()
    monkeypatch.delitem(ConfigStore.instance().repo["hydra"]["sweeper"], "optuna.yaml")
    line = refusal(capsys, monkeypatch, tmp_path, "sweep=optuna_exponents")
    assert "hydra-optuna-sweeper, which is not installed" in line


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_missing_gpu(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    assert "gpu" in refusal(capsys, monkeypatch, tmp_path, "trainer.accelerator=gpu")


def test_folders_that_are_no_model(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    override = ("policy=hf", f"policy.path={folder}")

    def said(step: int) -> str:
        (tmp_path / str(step)).mkdir()
        return refusal(capsys, monkeypatch, tmp_path / str(step), *override)

    assert "is not a transformers model" in said(1)
    (folder / "config.json").write_text("{broken")
    assert "is not a transformers model" in said(2)
    tokenizer = byte_tokenizer()
    model = build_model(EmbeddedSettings(context=32), tokenizer)
    model.config.save_pretrained(folder)
    assert "no weights" in said(3)
    model.save_pretrained(folder)
    assert "has no tokenizer" in said(4)
    tokenizer.save_pretrained(folder)
    data = tmp_path / "long.jsonl"
    data.write_text(json.dumps({"problem": "x" * 100, "answer": "1"}))
    override = (*override, "task=math", f"task.path={data}")
    line = said(5)
    assert "long/1" in line and "at most 16 fit" in line
    tokenizer.eos_token = None
    tokenizer.save_pretrained(folder)
    model.config.eos_token_id = model.generation_config.eos_token_id = None
    model.save_pretrained(folder)
    override = ("policy=hf", f"policy.path={folder}")
    assert "end token" in said(6)


def test_data_files(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    data = tmp_path / "data.jsonl"
    cases = {
        '{"question": "1?", "answer": "1"}\n': "row 1 of .*problem.*question, answer",
        "": "has no rows",
        "{oops\n": "line 1",
    }
    for i, (text, want) in enumerate(cases.items()):
        data.write_text(text)
        (tmp_path / str(i)).mkdir()
        line = refusal(capsys, monkeypatch, tmp_path / str(i), "task=math", f"task.path={data}")
        assert re.search(want, line), line
