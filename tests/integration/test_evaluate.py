"""Evaluations within the test process, with the portable engine."""

import json
from pathlib import Path

import pandas as pd
import pytest
import torch

from asym_lightning.learner.embedded import byte_tokenizer
from asym_lightning.metrics.passk import pass_at_k
from asym_lightning.verify import jail
from tests.support.engines import FAMILIES
from tests.support.evaluations import completions, refused, score
from tests.support.runs import run


def test_numbers_are_those_of_the_completions(
    benchmark_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    got = score(monkeypatch, benchmark_folder, tmp_path, "samples={parity:4,amc23:2}")
    table = completions(tmp_path).groupby("problem")
    correct = pd.read_parquet(tmp_path / "parity.parquet").groupby("problem").reward.sum()
    metrics = got["parity"]["metrics"]
    assert got["parity"]["problems"] == 16
    assert got["amc23"]["problems"] == 6
    assert got["amc23"]["samples"] == 2
    assert metrics["avg@4"]["mean"] == pytest.approx(correct.mean() / 4) and 0 < correct.mean() < 4
    pass_at_2 = [pass_at_k(4, int(c), 2) for c in correct]
    assert metrics["pass@2"]["mean"] == pytest.approx(sum(pass_at_2) / 16)
    assert metrics["avg@4"]["low"] < metrics["avg@4"]["mean"] < metrics["avg@4"]["high"]
    assert metrics["verify/correct"]["mean"] + metrics["verify/wrong"]["mean"] == pytest.approx(1)
    length = table.tokens.mean().filter(like="amc").mean()
    assert got["amc23"]["metrics"]["length/mean"]["mean"] == pytest.approx(length)
    before = (tmp_path / "parity.parquet").stat().st_mtime_ns
    assert score(monkeypatch, benchmark_folder, tmp_path, "samples={parity:4,amc23:2}") == got
    after = (tmp_path / "parity.parquet").stat().st_mtime_ns
    assert after == before, "a finished benchmark is not scored again"


def test_answers_that_could_not_be_verified_are_shown(
    benchmark_folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "my_failing_scorer.py").write_text(
        "def fail(completion, answer):\n    raise ValueError('out of order')\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    scorer = (
        "verify@benchmarks.amc23.verify=function",
        "benchmarks.amc23.verify.target=my_failing_scorer:fail",
        "benchmarks.amc23.verify.needs_jail=false",
        "samples=1",
        "temperature=1",
    )
    got = score(monkeypatch, benchmark_folder, tmp_path / "run", *scorer)
    share = got["amc23"]["metrics"]["verify/error"]["mean"]
    line = f"amc23: {round(share * 6)} of 6 answers could not be verified"
    said = capsys.readouterr().out
    assert share > 0 and f"{line}, e.g.: ValueError: out of order" in said


def test_a_scorer_that_needs_a_jail_is_refused_where_there_is_none(
    benchmark_folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    pytest.importorskip("reasoning_gym", reason="needs the package reasoning-gym")
    monkeypatch.setattr(jail, "obstacle", lambda: "it needs Linux, and this is Plan 9")
    sums = ("+task@benchmarks.sums=reasoning_gym", "benchmarks.sums.datasets={chain_sum: 1}")
    line = refused(capsys, monkeypatch, benchmark_folder, tmp_path / "run", *sums)
    refusal = (
        "a scorer of reasoning-gym runs only inside the kernel's jail, which cannot be set up "
        "here: it needs Linux, and this is Plan 9"
    )
    assert line == f"error: benchmarks.sums: {refusal}"
    policy = f"policy.path={benchmark_folder / 'policy'}"
    task = ("task=reasoning_gym", "task.datasets={chain_sum: 1}")
    with pytest.raises(SystemExit) as stopped:
        run(monkeypatch, tmp_path, policy, *task)
    assert stopped.value.code == 2
    assert f"error: task: {refusal}" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("family", FAMILIES)
def test_a_folder_of_any_family_is_scored(
    family: str, benchmark_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    FAMILIES[family]().save_pretrained(tmp_path / "policy")
    byte_tokenizer().save_pretrained(tmp_path / "policy")
    policy = f"policy.path={tmp_path / 'policy'}"
    got = score(monkeypatch, benchmark_folder, tmp_path / "run", policy, "samples=2")
    assert got["parity"]["problems"] == 16 and got["parity"]["metrics"]["length/mean"]["mean"] > 0


def test_other_settings_in_the_same_folder_are_refused(
    benchmark_folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    greedily = ("samples=1", "temperature=0")
    got = score(monkeypatch, benchmark_folder, tmp_path, *greedily)
    assert got["parity"]["metrics"]["avg@1"]["mean"] == got["parity"]["metrics"]["pass@1"]["mean"]
    greedy = pd.read_parquet(tmp_path / "parity.parquet").completion
    score(monkeypatch, benchmark_folder, tmp_path / "again", *greedily, "seed=5")
    again = pd.read_parquet(tmp_path / "again" / "parity.parquet").completion
    assert greedy.equals(again), "greedy answers need no seed"
    capsys.readouterr()

    def refusal(*overrides: str) -> str:
        return refused(capsys, monkeypatch, benchmark_folder, tmp_path, *overrides)

    line = refusal("samples=1", "temperature=0.5")
    assert "with temperature=0, now it is 0.5; name a new folder" in line
    rows = benchmark_folder / "other.jsonl"
    rows.write_text((benchmark_folder / "amc.jsonl").read_text().replace("1+1?", "2+1?"))
    assert "problems of amc23=" in refusal(*greedily, f"benchmarks.amc23.path={rows}")
    verify = "benchmarks.amc23.verify"
    line = refusal(*greedily, f"{verify}.timeout_s=77", f"{verify}.workers=1")
    assert "verifier of amc23=" in line and "'timeout_s': 77" in line and "workers" not in line


def test_a_run_is_validated_on_benchmarks_and_its_best_checkpoint_scored(
    benchmark_folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "benchmarks").mkdir()
    parity = "parity:\n  _target_: tests.support.coin.Graded\n"
    (tmp_path / "benchmarks" / "parity.yaml").write_text(parity)
    (tmp_path / "task").mkdir()
    (tmp_path / "task" / "coin.yaml").write_text("_target_: tests.support.coin.Parity\n")
    best = (
        "_target_:lightning.pytorch.callbacks.ModelCheckpoint,monitor:eval/parity/avg@2,mode:max,"
        f"every_n_epochs:2,filename:best,dirpath:{tmp_path / 'run' / 'checkpoints'},"
        "save_on_train_epoch_end:true"
    )
    folder = run(
        monkeypatch,
        tmp_path,
        f"policy.path={benchmark_folder / 'policy'}",
        "task=coin",
        "benchmarks=[parity]",
        "trainer.max_epochs=4",
        "callbacks.evaluation.every=2",
        "callbacks.evaluation.before=false",
        "callbacks.evaluation.samples={heldout:3,parity:2}",
        "callbacks.evaluation.greedy=true",
        "callbacks.evaluation.problems=12",
        f"+callbacks.best={{{best}}}",
    )
    table = pd.read_csv(folder / "metrics.csv").set_index("step")
    validated = table["eval/parity/avg@2"].dropna()
    assert list(validated.index) == [2, 4] and table["eval/heldout/avg@3"].notna().sum() == 2
    evaluation = json.loads((folder / "summary.json").read_text())["evaluation"]
    assert evaluation["before"] == {} and evaluation["after"]["eval/parity/avg@2"] == validated[4]
    assert "held-out avg@3" in capsys.readouterr().out, "the closing table has what there is"
    correct = table["eval/parity/greedy"].dropna() * 12
    assert len(correct) == 2
    unrounded = (correct - correct.round()).abs().max()
    assert unrounded < 1e-9, "a share of the problems, though wrong answers have a reward"
    state = torch.load(folder / "checkpoints" / "best.ckpt", weights_only=True)
    best_step = validated.loc[[2, 4]].idxmax()
    assert state["epoch"] + 1 == best_step
    checkpoint = f"policy.path={folder / 'checkpoints' / 'best.ckpt'}"
    got = score(monkeypatch, benchmark_folder, tmp_path / "scored", checkpoint)
    assert got["parity"]["problems"] == 16
    assert (tmp_path / "scored" / "policy" / "config.json").is_file()
    saved = json.loads((tmp_path / "scored" / "results.json").read_text())
    assert saved["policy"].endswith("best.ckpt")
