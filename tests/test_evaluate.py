"""`python evaluate.py` from end to end, with the real vLLM on a small policy."""

import json
import os
import re
import signal
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch

from asym_lightning.cli import entry
from asym_lightning.embedded import byte_tokenizer
from asym_lightning.metrics.passk import pass_at_k
from asym_lightning.verify import jail
from tests.conftest import ROOT
from tests.runs import random_policy, run
from tests.test_engine import FAMILIES

BOTH = ("benchmarks=[parity,amc23]", "samples=4", "temperature=0.7", "rollout.max_tokens=12", "problems_per_part=2")


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A policy, a benchmark of a user's own in a config folder, and a file for one of ours with a prompt that is too long."""
    folder = tmp_path_factory.mktemp("evaluate")
    random_policy(folder / "policy")
    (folder / "conf" / "benchmarks").mkdir(parents=True)
    (folder / "conf" / "benchmarks" / "parity.yaml").write_text("parity:\n  _target_: tests.coin.Interrupting\n")
    rows = [{"question": f"{i}+1?", "answer": str(i + 1)} for i in range(6)] + [{"question": "1" * 20000, "answer": "1"}]
    (folder / "amc.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


def arguments(place: Path, into: Path, *overrides: str) -> list[str]:
    given = (f"policy.path={place / 'policy'}", f"benchmarks.amc23.path={place / 'amc.jsonl'}", f"hydra.run.dir={into}")
    return ["evaluate.py", "--config-dir", str(place / "conf"), *given, *BOTH, *overrides]


def score(monkeypatch: pytest.MonkeyPatch, place: Path, into: Path, *overrides: str) -> dict[str, Any]:
    """An evaluation within the test's own process with the portable engine; its results."""
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.setattr(sys, "argv", arguments(place, into, "rollout.engine=transformers", *overrides))
    entry("evaluate", "asym_lightning.evaluation.run:evaluate", "asym_lightning.evaluation.run:check_all")
    return results(into)


def results(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "results.json").read_text())["benchmarks"]


def completions(folder: Path) -> pd.DataFrame:
    return pd.concat([pd.read_parquet(folder / f"{name}.parquet") for name in ("parity", "amc23")], ignore_index=True)


def test_an_interrupted_evaluation_continued_on_two_ranks_is_the_whole_one(place: Path, tmp_path: Path) -> None:
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    begin = partial(subprocess.Popen, cwd=ROOT, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    heed = partial(signal.signal, signal.SIGINT, signal.SIG_DFL)
    stopped = begin([sys.executable, *arguments(place, tmp_path / "two")], preexec_fn=heed, env=environment | {"INTERRUPT_AT": "3"})
    output = stopped.communicate(timeout=200)[0]
    assert stopped.returncode == 130 and "goes on from here" in output and "Traceback" not in output, output
    kept = {path: path.stat().st_mtime_ns for path in (tmp_path / "two" / "parts").rglob("*.parquet")}
    assert 0 < len(kept) < 8 + 3 and not (tmp_path / "two" / "amc23.parquet").exists()
    for into, more in (("whole", ()), ("two", ("--devices", "2"))):
        done = begin([sys.executable, *arguments(place, tmp_path / into, *more)], env=environment)
        output = done.communicate(timeout=400)[0]
        assert done.returncode == 0, output
        assert "amc23: 1 of 7 prompts have more than" in output and "by bootstrap over problems" in output
    pd.testing.assert_frame_equal(completions(tmp_path / "whole"), completions(tmp_path / "two"))
    assert results(tmp_path / "whole") == results(tmp_path / "two") and not (tmp_path / "two" / "parts").exists()


def test_numbers_are_those_of_the_completions(place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    got = score(monkeypatch, place, tmp_path, "samples={parity:4,amc23:2}")
    table = completions(tmp_path).groupby("problem")
    right = pd.read_parquet(tmp_path / "parity.parquet").groupby("problem").reward.sum()
    metrics = got["parity"]["metrics"]
    assert got["parity"]["problems"] == 16 and got["amc23"]["problems"] == 6 and got["amc23"]["samples"] == 2
    assert metrics["avg@4"]["mean"] == pytest.approx(right.mean() / 4) and 0 < right.mean() < 4
    assert metrics["pass@2"]["mean"] == pytest.approx(sum(pass_at_k(4, int(c), 2) for c in right) / 16)
    assert metrics["avg@4"]["low"] < metrics["avg@4"]["mean"] < metrics["avg@4"]["high"]
    assert metrics["verify/correct"]["mean"] + metrics["verify/wrong"]["mean"] == pytest.approx(1)
    assert got["amc23"]["metrics"]["length/mean"]["mean"] == pytest.approx(table.tokens.mean().filter(like="amc").mean())
    before = (tmp_path / "parity.parquet").stat().st_mtime_ns
    assert score(monkeypatch, place, tmp_path, "samples={parity:4,amc23:2}") == got
    assert (tmp_path / "parity.parquet").stat().st_mtime_ns == before, "what is finished is not done again"


def test_answers_that_could_not_be_verified_are_shown(
    place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "my_failing_scorer.py").write_text("def fail(completion, answer):\n    raise ValueError('out of order')\n")
    monkeypatch.syspath_prepend(tmp_path)
    scorer = ("verify@benchmarks.amc23.verify=function", "benchmarks.amc23.verify.target=my_failing_scorer:fail")
    scorer += ("benchmarks.amc23.verify.needs_jail=false", "samples=1", "temperature=1")
    got = score(monkeypatch, place, tmp_path / "run", *scorer)
    share = got["amc23"]["metrics"]["verify/error"]["mean"]
    line = f"amc23: {round(share * 6)} of 6 answers could not be verified, e.g.: ValueError: out of order"
    assert share > 0 and line in capsys.readouterr().out


def test_a_scorer_that_needs_a_jail_is_refused_where_there_is_none(
    place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("reasoning_gym", reason="needs the package reasoning-gym")
    monkeypatch.setattr(jail, "obstacle", lambda: "it needs Linux, and this is Plan 9")
    line = refused(
        capsys, monkeypatch, place, tmp_path / "run", "+task@benchmarks.sums=reasoning_gym", "benchmarks.sums.datasets={chain_sum: 1}"
    )
    assert line.endswith("runs only inside a jail that the kernel keeps, which cannot be set up here: it needs Linux, and this is Plan 9")
    with pytest.raises(SystemExit) as stopped:
        run(monkeypatch, tmp_path, f"policy.path={place / 'policy'}", "task=reasoning_gym", "task.datasets={chain_sum: 1}")
    assert stopped.value.code == 2 and "only inside a jail" in capsys.readouterr().err and not (tmp_path / "run").exists()


@pytest.mark.parametrize("family", FAMILIES)
def test_a_folder_of_any_family_is_scored(family: str, place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    FAMILIES[family]().save_pretrained(tmp_path / "policy")
    byte_tokenizer().save_pretrained(tmp_path / "policy")
    got = score(monkeypatch, place, tmp_path / "run", f"policy.path={tmp_path / 'policy'}", "samples=2")
    assert got["parity"]["problems"] == 16 and got["parity"]["metrics"]["length/mean"]["mean"] > 0


def refused(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, place: Path, into: Path, *overrides: str) -> str:
    with pytest.raises(SystemExit) as stopped:
        score(monkeypatch, place, into, *overrides)
    lines = capsys.readouterr().err.strip().splitlines()
    assert stopped.value.code == 2 and len(lines) == 1, lines
    return lines[0]


def test_other_settings_in_the_same_folder_are_refused(
    place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    one = ("samples=1", "temperature=0")
    got = score(monkeypatch, place, tmp_path, *one)
    assert got["parity"]["metrics"]["avg@1"]["mean"] == got["parity"]["metrics"]["pass@1"]["mean"]
    greedy = pd.read_parquet(tmp_path / "parity.parquet").completion
    score(monkeypatch, place, tmp_path / "again", *one, "seed=5")
    assert greedy.equals(pd.read_parquet(tmp_path / "again" / "parity.parquet").completion), "greedy answers need no seed"
    capsys.readouterr()
    assert "with temperature=0, now it is 0.5; name a new folder" in refused(
        capsys, monkeypatch, place, tmp_path, "samples=1", "temperature=0.5"
    )
    rows = place / "other.jsonl"
    rows.write_text((place / "amc.jsonl").read_text().replace("1+1?", "2+1?"))
    line = refused(capsys, monkeypatch, place, tmp_path, *one, f"benchmarks.amc23.path={rows}")
    assert "problems of amc23=" in line
    line = refused(capsys, monkeypatch, place, tmp_path, *one, "benchmarks.amc23.verify.timeout_s=77", "benchmarks.amc23.verify.workers=1")
    assert "verifier of amc23=" in line and "'timeout_s': 77" in line and "workers" not in line


BAD = {
    "samples=0": r"samples=0: must be a whole number",
    "temperature=0": r"temperature=0 is greedy: all 4 samples would be the same one; use samples=1",
    "samples={parity:2}": r"samples has no number for amc23",
    "benchmarks.amc23.path=none.jsonl": r"benchmarks\.amc23\.path=none\.jsonl is no file",
    "policy.path=none.ckpt": r"policy\.path=none\.ckpt: there is no such checkpoint",
    "policy.path=./nowhere": r"there is no such folder",
    "rollout.dtype=int8": r"rollout\.dtype=int8: must be one of auto",
    "devices=0": r"devices=0: must be a whole number",
    "accelerator=cqu": r"accelerator=cqu: must be one of auto, cpu",
    "policy.trust_remote_code=x": r"policy\.trust_remote_code=x: must be true or false",
    "rollout.enforce_eager=on_": r"rollout\.enforce_eager=on_: must be true or false",
    "data.max_prompt_tokens=x": r"data\.max_prompt_tokens=x: must be a whole number",
    "sample=3": r"did you mean 'samples'",
    "rollout.max_tokens=100000": r"every prompt is too long",
}


@pytest.mark.parametrize("given", BAD)
def test_bad_settings(given: str, place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    line = refused(capsys, monkeypatch, place, tmp_path / "run", given)
    assert re.search(BAD[given], line), line
    assert not (tmp_path / "run").exists()


def test_a_run_is_validated_on_benchmarks_and_its_best_checkpoint_scored(
    place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "benchmarks").mkdir()
    (tmp_path / "benchmarks" / "parity.yaml").write_text("parity:\n  _target_: tests.coin.Graded\n")
    (tmp_path / "task").mkdir()
    (tmp_path / "task" / "coin.yaml").write_text("_target_: tests.coin.Parity\n")
    best = "{_target_:lightning.pytorch.callbacks.ModelCheckpoint,monitor:eval/parity/avg@2,mode:max,every_n_epochs:2,filename:best,"
    folder = run(
        monkeypatch,
        tmp_path,
        f"policy.path={place / 'policy'}",
        "task=coin",
        "benchmarks=[parity]",
        "trainer.max_epochs=4",
        "callbacks.evaluation.every=2",
        "callbacks.evaluation.before=false",
        "callbacks.evaluation.samples={heldout:3,parity:2}",
        "callbacks.evaluation.greedy=true",
        "callbacks.evaluation.problems=12",
        "+callbacks.best=" + best + "dirpath:" + str(tmp_path / "run" / "checkpoints") + ",save_on_train_epoch_end:true}",
    )
    table = pd.read_csv(folder / "metrics.csv").set_index("step")
    validated = table["eval/parity/avg@2"].dropna()
    assert list(validated.index) == [2, 4] and table["eval/heldout/avg@3"].notna().sum() == 2
    evaluation = json.loads((folder / "summary.json").read_text())["evaluation"]
    assert evaluation["before"] == {} and evaluation["after"]["eval/parity/avg@2"] == validated[4]
    assert "held-out avg@3" in capsys.readouterr().out, "the closing table has what there is"
    right = table["eval/parity/greedy"].dropna() * 12
    assert len(right) == 2 and (right - right.round()).abs().max() < 1e-9, "a share of the problems, whatever wrong answers get"
    state = torch.load(folder / "checkpoints" / "best.ckpt", weights_only=True)
    best_step = validated.loc[[2, 4]].idxmax()
    assert state["epoch"] + 1 == best_step
    got = score(monkeypatch, place, tmp_path / "scored", f"policy.path={folder / 'checkpoints' / 'best.ckpt'}")
    assert got["parity"]["problems"] == 16 and (tmp_path / "scored" / "policy" / "config.json").is_file()
    assert json.loads((tmp_path / "scored" / "results.json").read_text())["policy"].endswith("best.ckpt")
