"""compare.py on run folders: the runs that it reads or leaves out, their length, the baseline."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from asym_lightning.analysis.arms import group, order
from asym_lightning.analysis.runs import ComparisonError, read_runs
from tests.support.synthetic import compared, several, write_run

# ---- reading ----


def test_numbers_are_those_of_the_folders(tmp_path: Path) -> None:
    for seed, reward in ((1, 0.4), (2, 0.5), (3, 0.7)):
        values = {"reward": reward, "entropy": 0.3, "unsolved": 0.2, "pass_at": {1: 0.5, 8: 0.9}}
        write_run(tmp_path / f"a{seed}", "grpo", seed, **values)
    found = {r.measure.name: r for r in compared(tmp_path).results}
    assert found["reward/mean"].values == pytest.approx({1: 0.4, 2: 0.5, 3: 0.7})
    assert found["reward/mean"].summary.mean == pytest.approx(1.6 / 3)
    assert found["reward/mean"].summary.std == pytest.approx(0.1527525, rel=1e-5)
    assert found["entropy/policy"].summary.mean == pytest.approx(0.3)
    assert found["solved/none"].summary.mean == pytest.approx(0.2)
    assert found["eval/heldout/pass@8"].values == {1: 0.9, 2: 0.9, 3: 0.9}
    assert found["wall_seconds"].summary.n == 3


def test_runs_are_found_once_at_any_depth(tmp_path: Path) -> None:
    several(tmp_path / "sweep" / "deep", 1, 2)
    alone = write_run(tmp_path / "alone", "asymgrpo", 1)
    (tmp_path / "notes.txt").write_text("mine")
    (tmp_path / "empty").mkdir()
    sweep = tmp_path / "sweep"
    paths = [sweep, alone, alone, sweep / "deep", tmp_path / "notes.txt", tmp_path / "empty"]
    runs, left_out = read_runs(paths)
    found = sorted((run.algorithm, run.seed) for run in runs)
    assert found == [("asymgrpo", 1), ("grpo", 1), ("grpo", 2)]
    reasons = {out.folder.name: out.reason for out in left_out}
    assert reasons == {"notes.txt": "a file, not a folder", "empty": "no run in it"}


def spoil_summary(folder: Path) -> None:
    (folder / "summary.json").write_text('{"status": "done", ')


def spoil_config(folder: Path) -> None:
    summary = json.loads((folder / "summary.json").read_text())
    (folder / "summary.json").write_text(json.dumps({**summary, "config": None}))


def spoil_text(folder: Path) -> None:
    lines = (folder / "metrics.csv").read_text().splitlines()
    at = lines[0].split(",").index("entropy/policy")
    cells = lines[5].split(",")
    cells[at] = "oops"
    (folder / "metrics.csv").write_text("\n".join([*lines[:5], ",".join(cells), *lines[6:]]))


def spoil_length(folder: Path) -> None:
    lines = (folder / "metrics.csv").read_text().splitlines()
    (folder / "metrics.csv").write_text("\n".join(lines[:20]))


def spoil_infinity(folder: Path) -> None:
    lines = (folder / "metrics.csv").read_text().splitlines()
    at = lines[0].split(",").index("reward/mean")
    cells = lines[7].split(",")
    cells[at] = "inf"
    (folder / "metrics.csv").write_text("\n".join([*lines[:7], ",".join(cells), *lines[8:]]))


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (spoil_summary, "summary.json cannot be read: Expecting property name"),
        (spoil_config, "'config' is missing or not of type dict"),
        (spoil_text, "column entropy/policy holds something that is no number"),
        (spoil_length, "a reward in 18 of 30 iterations only"),
        (spoil_infinity, "a reward in 29 of 30 iterations only"),
        (lambda folder: (folder / "metrics.csv").unlink(), "metrics.csv is missing"),
        (lambda folder: (folder / "metrics.csv").write_text(""), "metrics.csv cannot be read"),
        (
            lambda folder: (folder / "metrics.csv").write_text("step,loss\n0,1\n"),
            "no column reward/mean",
        ),
        (lambda folder: (folder / "summary.json").unlink(), "still running, or was killed"),
    ],
)
def test_a_broken_run_is_named(
    tmp_path: Path, spoil: Callable[[Path], object], reason: str
) -> None:
    several(tmp_path, 1)
    spoil(write_run(tmp_path / "broken", "grpo", 2))
    runs, (left,) = read_runs([tmp_path])
    assert len(runs) == 1 and left.folder == tmp_path / "broken" and reason in left.reason


def test_an_unfinished_run_is_left_out_unless_asked_for(tmp_path: Path) -> None:
    several(tmp_path, 1, 2)
    write_run(tmp_path / "stopped", "grpo", 3, iterations=25, status="interrupted")
    runs, (left,) = read_runs([tmp_path])
    assert len(runs) == 2
    assert left.reason == "status interrupted after 25 iterations; --unfinished takes it in"
    found = compared(tmp_path, unfinished=True)
    assert found.cut == 25 and len(found.runs) == 3


def test_a_failed_run_is_left_out_with_its_own_words(tmp_path: Path) -> None:
    def out_of_memory(summary: dict[str, Any]) -> None:
        summary["error"] = "out of memory"

    several(tmp_path, 1)
    for name in ("early", "late"):
        write_run(tmp_path / name, "grpo", 2, status="failed", change=out_of_memory)
    (tmp_path / "early" / "metrics.csv").unlink()
    reasons = {out.folder.name: out.reason for out in read_runs([tmp_path])[1]}
    assert reasons == {
        "early": "status failed: out of memory",
        "late": "status failed (out of memory) after 30 iterations; --unfinished takes it in",
    }


# ---- length ----


def test_longer_runs_are_cut_and_their_late_evaluation_does_not_count(tmp_path: Path) -> None:
    several(tmp_path, 1, 2, iterations=30)
    several(tmp_path, 1, 2, algorithm="asymgrpo", iterations=60)
    found = compared(tmp_path)
    assert found.cut == 30
    assert any("2 of 4 runs go on to iteration 60" in note for note in found.notes)
    by = {(r.arm.method, r.measure.name): r for r in found.results}
    assert ("asymgrpo", "eval/heldout/pass@1") not in by and ("asymgrpo", "wall_seconds") not in by
    assert by["grpo", "eval/heldout/pass@1"].summary.n == 2
    run = next(run for run in found.runs if run.algorithm == "asymgrpo" and run.seed == 1)
    last_ten = run.train["reward/mean"].loc[20:29].mean()
    assert by["asymgrpo", "reward/mean"].values[1] == pytest.approx(last_ten)


def add_evaluation(table: Path) -> None:
    """Append a row with a held-out pass@1 of 0.77 after 30 iterations."""
    header, *rows = table.read_text().splitlines()
    cells = {"step": "30", "eval/heldout/pass@1": "0.77"}
    row = ",".join(cells.get(name, "") for name in header.split(","))
    table.write_text("\n".join([header, *rows, row]))


def test_an_evaluation_at_the_cut_counts(tmp_path: Path) -> None:
    several(tmp_path, 1, iterations=30)
    folder = write_run(tmp_path / "long", "asymgrpo", 1, iterations=60)
    add_evaluation(folder / "metrics.csv")
    by = {(r.arm.method, r.measure.name): r for r in compared(tmp_path).results}
    assert by["asymgrpo", "eval/heldout/pass@1"].values == {1: 0.77}


def test_of_an_unfinished_run_only_an_evaluation_at_the_cut_counts(tmp_path: Path) -> None:
    def evaluated_earlier(summary: dict[str, Any]) -> None:
        # The last evaluation of this run, after some 20 iterations.
        summary["evaluation"]["after"] = {"eval/heldout/pass@1": 0.9}

    several(tmp_path, 1, iterations=30)
    folder = write_run(
        tmp_path / "failed", "asymgrpo", 1, iterations=30, status="failed", change=evaluated_earlier
    )
    by = {(r.arm.method, r.measure.name): r for r in compared(tmp_path, unfinished=True).results}
    assert ("asymgrpo", "eval/heldout/pass@1") not in by and ("asymgrpo", "wall_seconds") not in by
    assert by["grpo", "eval/heldout/pass@1"].summary.n == 1
    assert by["asymgrpo", "reward/mean"].summary.n == 1
    add_evaluation(folder / "metrics.csv")
    by = {(r.arm.method, r.measure.name): r for r in compared(tmp_path, unfinished=True).results}
    assert by["asymgrpo", "eval/heldout/pass@1"].values == {1: 0.77}


# ---- baseline ----


def test_the_baseline_is_grpo_or_the_first_or_what_is_asked_for(tmp_path: Path) -> None:
    several(tmp_path, 1, algorithm="asymgrpo")
    several(tmp_path, 1, algorithm="pos_only")
    assert [arm.label for arm in compared(tmp_path).baselines] == ["asymgrpo"]
    assert [arm.label for arm in compared(tmp_path, "pos_only").arms] == ["pos_only", "asymgrpo"]
    several(tmp_path, 1)
    assert [arm.label for arm in compared(tmp_path).baselines] == ["grpo"]
    message = "--baseline dapo: no such method or arm; there are asymgrpo; grpo; pos_only"
    with pytest.raises(ComparisonError, match=message):
        compared(tmp_path, "dapo")


def test_a_baseline_of_several_arms_must_be_one_of_them(tmp_path: Path) -> None:
    several(tmp_path, 1)
    for positive in (0.5, 0.9):
        several(tmp_path, 1, algorithm="asymgrpo", overrides={"algo.advantage.beta_pos": positive})
    arms, _ = group(read_runs([tmp_path])[0])
    message = r"2 arms, name one of them: asymgrpo, beta_pos 0\.5; asymgrpo, beta_pos 0\.9"
    with pytest.raises(ComparisonError, match=message):
        order(arms, "asymgrpo")
    ordered, opponents = order(arms, "asymgrpo, beta_pos 0.9")
    assert ordered[0].label == "asymgrpo, beta_pos 0.9"
    compared_with_first = {label for label, base in opponents.items() if base is ordered[0]}
    assert compared_with_first == {arm.label for arm in arms}
