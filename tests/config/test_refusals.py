"""Bad overrides: one line that says what is wrong and what to write, status 2, no file written."""

import re
from pathlib import Path

import pytest

from tests.support import ROOT
from tests.support.bad_overrides import BAD, ZERO
from tests.support.refusals import refusal, refusal_of_parts


def test_an_objective_of_held_out_problems_needs_some(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "one.jsonl").write_text('{"problem": "1+1", "answer": "2"}\n')
    given = ("sweep=optuna_exponents", "task=math", f"task.path={tmp_path / 'one.jsonl'}")
    line = refusal(capsys, monkeypatch, tmp_path, *given)
    assert "objective=eval/heldout/pass@8: must be one of reward" in line


def test_training_problems_that_are_all_in_a_benchmark(tmp_path: Path) -> None:
    (tmp_path / "one.jsonl").write_text('{"problem": "1+1", "answer": "2"}\n')
    line = refusal_of_parts(
        *("task=math", f"task.path={tmp_path / 'one.jsonl'}", "data.drop_overlap=exact"),
        *("benchmarks=[amc23]", f"benchmarks.amc23.path={tmp_path / 'one.jsonl'}"),
    )
    assert line.startswith("data.drop_overlap=exact leaves no training problem: all of them")


# A few of each kind go through the command; for the others only the part that refuses them runs.
BY_COMMAND = [
    "algo=asymgpro",
    "rollout.group_sise=4",
    "task.path=foo.jsonl",
    "+trainer.bogus=1",
    "rollout=2",
    "algo.advantage.beta_pos=-1",
    "algo.advantage._target_=no.such.place",
    "rollout.group_size=two",
    "trainer.devices=3",
    "policy=hf",
    "policy=hf policy.path=./nowhere",
    "data.max_prompt_tokens=3",
    "callbacks.record=null",
    "ckpt_path=none.ckpt",
    "foo",
    "task.path=/data/a=b.jsonl",
    "policy.path=~/models/mine",
    "seed=[1,",
    "logger=wandb",
    f"{ZERO} ckpt_path={ROOT / 'pyproject.toml'}",
    "policy.lora.r=8",
    *(given for given in BAD if given.startswith(("-m", "sweep="))),
]


@pytest.mark.parametrize("given", BY_COMMAND, ids=lambda given: given.replace(f"{ROOT}/", ""))
def test_bad_overrides_of_a_command(
    given: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    line = refusal(capsys, monkeypatch, tmp_path, *given.split())
    assert re.search(BAD[given], line), line


@pytest.mark.parametrize("given", [given for given in BAD if given not in BY_COMMAND])
def test_bad_overrides(given: str) -> None:
    line = f"error: {' '.join(refusal_of_parts(*given.split()).split())}"
    assert re.search(BAD[given], line), line


@pytest.mark.parametrize(
    ("local_rank", "said"),
    [("0", r"rollout\.group_size=0: must be"), ("3", r"LOCAL_RANK=3 is set, and neither torchrun")],
)
def test_a_local_rank_that_no_launcher_has_set_skips_no_check(
    local_rank: str,
    said: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    monkeypatch.setenv("LOCAL_RANK", local_rank)
    monkeypatch.setenv("SLURM_NTASKS", "")
    assert re.search(said, refusal(capsys, monkeypatch, tmp_path, "rollout.group_size=0"))
