"""compare.py on run folders: what it reads, what it leaves out, what it compares with what, and what it tells."""

import csv
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from asym_lightning.analysis.arms import group, order
from asym_lightning.analysis.command import main
from asym_lightning.analysis.outputs import TOOL, claim, statistics
from asym_lightning.analysis.runs import Refused, read_runs
from tests.support.synthetic import compared, several, write_run

Command = Callable[..., tuple[int, str, str]]


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    """Runs compare.py; returns exit status, stdout and stderr."""

    def run(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["compare.py", *map(str, arguments)])
        try:
            main()
            status = 0
        except SystemExit as stop:
            status = int(stop.code or 0)
        return status, *capsys.readouterr()

    return run


# ---- reading ----


def test_numbers_are_those_of_the_folders(tmp_path: Path) -> None:
    for seed, reward in ((1, 0.4), (2, 0.5), (3, 0.7)):
        write_run(tmp_path / f"a{seed}", "grpo", seed, reward=reward, entropy=0.3, unsolved=0.2, pass_at={1: 0.5, 8: 0.9})
    found = {r.measure.name: r for r in compared(tmp_path).results}
    assert found["reward/mean"].values == pytest.approx({1: 0.4, 2: 0.5, 3: 0.7})
    assert found["reward/mean"].summary.mean == pytest.approx(1.6 / 3)
    assert found["reward/mean"].summary.std == pytest.approx(0.1527525, rel=1e-5)
    assert found["entropy/policy"].summary.mean == pytest.approx(0.3) and found["solved/none"].summary.mean == pytest.approx(0.2)
    assert found["eval/heldout/pass@8"].values == {1: 0.9, 2: 0.9, 3: 0.9}
    assert found["wall_seconds"].summary.n == 3


def test_runs_are_found_once_at_any_depth(tmp_path: Path) -> None:
    several(tmp_path / "sweep" / "deep", 1, 2)
    alone = write_run(tmp_path / "alone", "asymgrpo", 1)
    (tmp_path / "notes.txt").write_text("mine")
    (tmp_path / "empty").mkdir()
    paths = [tmp_path / "sweep", alone, alone, tmp_path / "sweep" / "deep", tmp_path / "notes.txt", tmp_path / "empty"]
    runs, left_out = read_runs(paths)
    assert sorted((run.algorithm, run.seed) for run in runs) == [("asymgrpo", 1), ("grpo", 1), ("grpo", 2)]
    assert {out.folder.name: out.reason for out in left_out} == {"notes.txt": "a file, not a folder", "empty": "no run in it"}


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
        (lambda folder: (folder / "metrics.csv").write_text("step,loss\n0,1\n"), "no column reward/mean"),
        (lambda folder: (folder / "summary.json").unlink(), "still running, or was killed"),
    ],
)
def test_a_broken_run_is_named(tmp_path: Path, spoil: Callable[[Path], object], reason: str) -> None:
    several(tmp_path, 1)
    spoil(write_run(tmp_path / "broken", "grpo", 2))
    runs, (left,) = read_runs([tmp_path])
    assert len(runs) == 1 and left.folder == tmp_path / "broken" and reason in left.reason


def test_an_unfinished_run_is_left_out_unless_asked_for(tmp_path: Path) -> None:
    several(tmp_path, 1, 2)
    write_run(tmp_path / "stopped", "grpo", 3, iterations=25, status="interrupted")
    runs, (left,) = read_runs([tmp_path])
    assert len(runs) == 2 and left.reason == "status interrupted after 25 iterations; --unfinished takes it in"
    found = compared(tmp_path, unfinished=True)
    assert found.cut == 25 and len(found.runs) == 3


def test_a_failed_run_is_left_out_with_its_own_words(tmp_path: Path) -> None:
    several(tmp_path, 1)
    for name in ("early", "late"):
        write_run(tmp_path / name, "grpo", 2, status="failed", change=lambda summary: summary.update(error="out of memory"))
    (tmp_path / "early" / "metrics.csv").unlink()
    reasons = {out.folder.name: out.reason for out in read_runs([tmp_path])[1]}
    assert reasons["early"] == "status failed: out of memory"
    assert reasons["late"] == "status failed (out of memory) after 30 iterations; --unfinished takes it in"


# ---- length ----


def test_longer_runs_are_cut_and_their_late_evaluation_does_not_count(tmp_path: Path) -> None:
    several(tmp_path, 1, 2, iterations=30)
    several(tmp_path, 1, 2, algorithm="asymgrpo", iterations=60)
    found = compared(tmp_path)
    assert found.cut == 30 and any("2 of 4 runs go on to iteration 60" in note for note in found.notes)
    by = {(r.arm.method, r.measure.name): r for r in found.results}
    assert ("asymgrpo", "eval/heldout/pass@1") not in by and ("asymgrpo", "wall_seconds") not in by
    assert by["grpo", "eval/heldout/pass@1"].summary.n == 2
    run = next(run for run in found.runs if run.algorithm == "asymgrpo" and run.seed == 1)
    assert by["asymgrpo", "reward/mean"].values[1] == pytest.approx(run.train["reward/mean"].loc[20:29].mean())


def test_an_evaluation_at_the_cut_counts(tmp_path: Path) -> None:
    several(tmp_path, 1, iterations=30)
    folder = write_run(tmp_path / "long", "asymgrpo", 1, iterations=60)
    table = (folder / "metrics.csv").read_text().splitlines()
    names = table[0].split(",")
    row = ["30" if name == "step" else "0.77" if name == "eval/heldout/pass@1" else "" for name in names]
    (folder / "metrics.csv").write_text("\n".join([*table, ",".join(row)]))
    by = {(r.arm.method, r.measure.name): r for r in compared(tmp_path).results}
    assert by["asymgrpo", "eval/heldout/pass@1"].values == {1: 0.77}


def test_of_an_unfinished_run_only_an_evaluation_at_the_cut_counts(tmp_path: Path) -> None:
    def evaluated_earlier(summary: dict[str, Any]) -> None:
        summary["evaluation"]["after"] = {"eval/heldout/pass@1": 0.9}  # its last one, after some 20 iterations

    several(tmp_path, 1, iterations=30)
    folder = write_run(tmp_path / "failed", "asymgrpo", 1, iterations=30, status="failed", change=evaluated_earlier)
    by = {(r.arm.method, r.measure.name): r for r in compared(tmp_path, unfinished=True).results}
    assert ("asymgrpo", "eval/heldout/pass@1") not in by and ("asymgrpo", "wall_seconds") not in by
    assert by["grpo", "eval/heldout/pass@1"].summary.n == 1 and by["asymgrpo", "reward/mean"].summary.n == 1
    table = (folder / "metrics.csv").read_text().splitlines()
    row = ["30" if name == "step" else "0.77" if name == "eval/heldout/pass@1" else "" for name in table[0].split(",")]
    (folder / "metrics.csv").write_text("\n".join([*table, ",".join(row)]))
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
    with pytest.raises(Refused, match="--baseline dapo: no such method or arm; there are asymgrpo; grpo; pos_only"):
        compared(tmp_path, "dapo")


def test_a_baseline_of_several_arms_must_be_one_of_them(tmp_path: Path) -> None:
    several(tmp_path, 1)
    for positive in (0.5, 0.9):
        several(tmp_path, 1, algorithm="asymgrpo", overrides={"algo.advantage.beta_pos": positive})
    arms, _ = group(read_runs([tmp_path])[0])
    with pytest.raises(Refused, match=r"2 arms, name one of them: asymgrpo, beta_pos 0\.5; asymgrpo, beta_pos 0\.9"):
        order(arms, "asymgrpo")
    ordered, opponents = order(arms, "asymgrpo, beta_pos 0.9")
    assert ordered[0].label == "asymgrpo, beta_pos 0.9"
    assert {label for label, base in opponents.items() if base is ordered[0]} == {arm.label for arm in arms}


# ---- the command ----


def test_verdicts_end_to_end(tmp_path: Path, command: Command) -> None:
    logs = tmp_path / "logs"
    several(logs, 1, 2, 3, 4, 5)
    for seed in range(1, 6):  # mean shift 0.1
        several(logs, seed, algorithm="asymgrpo", shift=0.097 + 0.001 * seed, entropy=0.25 + 0.001 * seed)
    several(logs, 1, 2, algorithm="reinforce", shift=0.1)
    status, said, errors = command(logs, "--out", tmp_path / "report")
    assert (status, errors) == (0, "") and "reinforce lacks seed 3, 4, 5" in said
    stats = json.loads((tmp_path / "report" / "stats.json").read_text())
    verdicts = {(r["arm"], r["measure"]): r["verdict"] for r in stats["results"]}
    assert verdicts["asymgrpo", "reward/mean"] == "better" and verdicts["asymgrpo", "entropy/policy"] == "higher"
    assert verdicts["asymgrpo", "solved/none"] == "not separated" and verdicts["reinforce", "reward/mean"] == "too few seeds"
    assert verdicts["grpo", "reward/mean"] is None
    with (tmp_path / "report" / "table.csv").open() as file:
        rows = {(row["arm"], row["measure"]): row for row in csv.DictReader(file)}
    assert rows.keys() == verdicts.keys()
    row = rows["asymgrpo", "reward/mean"]
    assert float(row["difference"]) == pytest.approx(0.1) and float(row["difference_t_low"]) > 0 and row["baseline"] == "grpo"
    assert float(row["smallest_p_sign_flip"]) == 2 / 2**5
    assert json.loads(json.dumps(statistics(compared(logs)))) == stats  # the same runs give the same numbers


def test_what_each_method_is_made_of_is_told(tmp_path: Path, command: Command) -> None:
    bonus = {"_target_": "asym_lightning.algorithms.EntropyBonus", "coef": 0.001}
    logs = tmp_path / "logs"
    several(logs, 1)
    several(logs, 1, algorithm="asymgrpo", overrides={"algo.advantage.beta_pos": 0.7, "algo.equal_scale": True})
    several(logs, 1, algorithm="grpo_entropy", overrides={"algo.modulation.entropy_bonus": bonus, "algo.loss.clip_low": 0.3})
    found = compared(logs).methods
    assert found == {  # of the advantage, which is another function, all keys; of the loss, which is the same, what differs
        "grpo": {"equal_scale": "false", "advantage": "GroupStandardized", "loss": "clip_low 0.2", "modulation": "none"},
        "asymgrpo": {
            **{"equal_scale": "true", "advantage": "BetaFamily, beta_pos 0.7, beta_neg 0.4", "loss": "clip_low 0.2"},
            "modulation": "none",
        },
        "grpo_entropy": {
            **{"equal_scale": "false", "advantage": "GroupStandardized", "loss": "clip_low 0.3"},
            "modulation": "EntropyBonus, coef 1e-3",
        },
    }
    _, said, _ = command(logs, "--out", tmp_path / "report")
    assert "  asymgrpo: equal_scale true; advantage BetaFamily, beta_pos 0.7, beta_neg 0.4; loss clip_low 0.2; modulation none\n" in said
    text = (tmp_path / "report" / "report.html").read_text()
    assert text.count('<td class="text">BetaFamily, beta_pos 0.7, beta_neg 0.4</td>') == 1
    assert json.loads((tmp_path / "report" / "stats.json").read_text())["methods"] == found


def test_that_all_else_is_equal_points_to_the_methods_settings(tmp_path: Path, command: Command) -> None:
    several(tmp_path / "logs", 1)
    several(tmp_path / "logs", 1, algorithm="asymgrpo")
    command(tmp_path / "logs", "--out", tmp_path / "report")
    text = (tmp_path / "report" / "report.html").read_text()
    assert 'Apart from <a href="#methods">the settings of each method</a>, seed, loggers and folders, all configs' in text


def test_an_earlier_report_is_replaced(tmp_path: Path) -> None:
    figures = tmp_path / "report" / "figures"
    figures.mkdir(parents=True)
    (tmp_path / "report" / "stats.json").write_text(json.dumps({"tool": TOOL}))
    for name in ("stale.png", "stale.svg", "notes.txt"):
        (figures / name).write_text("old")
    claim(tmp_path / "report")
    assert [path.name for path in figures.iterdir()] == ["notes.txt"]


def test_bad_usage_is_one_line_and_status_2(tmp_path: Path, command: Command) -> None:
    logs = tmp_path / "logs"
    several(logs, 1)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("mine")
    for arguments, message in {
        (tmp_path / "nowhere",): "nowhere: there is no such folder",
        (tmp_path / "mine",): "no finished run",
        (logs, "--baseline", "dapo"): "no such method or arm; there are grpo",
        (logs, "--out", tmp_path / "mine"): "the folder is not empty and holds no earlier report",
        (logs, "--out", tmp_path / "mine" / "thesis.txt"): "it is a file; name a folder",
    }.items():
        given = arguments if "--out" in arguments else (*arguments, "--out", tmp_path / "out")
        status, _, errors = command(*given)
        assert status == 2 and errors.startswith("error: ") and errors.count("\n") == 1 and message in errors
    assert not (tmp_path / "out").exists() and [p.name for p in (tmp_path / "mine").iterdir()] == ["thesis.txt"]
