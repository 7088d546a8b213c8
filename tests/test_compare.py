"""compare.py on run folders: what it reads, what it leaves out, how it groups, and what it says is not equal."""

import csv
import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import compare
from asym_lightning.analysis.arms import group, inequalities, order
from asym_lightning.analysis.comparison import Comparison, lay_side_by_side
from asym_lightning.analysis.outputs import TOOL, claim, statistics
from asym_lightning.analysis.runs import Refused, read_runs
from tests.synthetic import write_run

LR = "policy.optimizer.learning_rate"
Command = Callable[..., tuple[int, str, str]]


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    """Runs compare.py; returns exit status, stdout and stderr."""

    def run(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["compare.py", *map(str, arguments)])
        try:
            compare.main()
            status = 0
        except SystemExit as stop:
            status = int(stop.code or 0)
        return status, *capsys.readouterr()

    return run


def several(folder: Path, *seeds: int, algorithm: str = "grpo", shift: float = 0.0, **given: Any) -> None:
    for seed in seeds:
        reward = 0.5 + shift + 0.01 * (seed % 3)
        write_run(folder / f"{algorithm}-{seed}-{len(list(folder.glob('*')))}", algorithm, seed, reward=reward, **given)


def compared(folder: Path, baseline: str | None = None, unfinished: bool = False) -> Comparison:
    return lay_side_by_side(*read_runs([folder], unfinished), baseline)


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


# ---- arms ----


def test_a_swept_key_makes_arms_with_readable_names(tmp_path: Path) -> None:
    for rate in (1e-4, 3e-4):
        several(tmp_path, 1, 2, overrides={LR: rate})
        several(tmp_path, 1, 2, algorithm="asymgrpo", overrides={LR: rate})
    found = compared(tmp_path)
    assert [arm.label for arm in found.arms] == [
        *("grpo, learning_rate 1e-4", "grpo, learning_rate 3e-4", "asymgrpo, learning_rate 1e-4", "asymgrpo, learning_rate 3e-4")
    ]
    opponents = {label: arm.label if arm else None for label, arm in found.opponents.items()}
    assert opponents["asymgrpo, learning_rate 3e-4"] == "grpo, learning_rate 3e-4"  # each beside its like
    assert opponents["grpo, learning_rate 3e-4"] == "grpo, learning_rate 3e-4"
    assert found.unequal == []


def test_an_exchanged_part_speaks_for_its_keys(tmp_path: Path) -> None:
    several(tmp_path, 1)
    several(tmp_path, 1, overrides={"algo.loss": {"_target_": "asym_lightning.algorithms.CISPO", "cap": 5.0}})
    several(tmp_path, 1, overrides={"algo.modulation.bonus": {"_target_": "asym_lightning.algorithms.EntropyBonus", "coefficient": 0.01}})
    labels = {arm.label for arm in compared(tmp_path).arms}
    assert labels == {"grpo, loss PPOClip, no bonus", "grpo, loss CISPO, no bonus", "grpo, loss PPOClip, bonus EntropyBonus"}


def test_the_exponents_make_a_grid_and_the_method_explains_the_rest(tmp_path: Path) -> None:
    several(tmp_path, 1, 2)
    for positive in (0.5, 0.9):
        several(tmp_path, 1, 2, algorithm="asymgrpo", overrides={"algo.advantage.beta_pos": positive})
    found = compared(tmp_path)
    assert [arm.label for arm in found.arms] == ["grpo", "asymgrpo, beta_pos 0.5", "asymgrpo, beta_pos 0.9"]
    assert found.unequal == []  # grpo has no exponents, and that is the method


def test_folders_loggers_and_length_make_no_arms(tmp_path: Path) -> None:
    several(tmp_path, 1)
    several(
        tmp_path, 2, iterations=20, overrides={"logger.csv.flush": 5, "callbacks.record.every": 3, "callbacks.evaluation.before": False}
    )
    found = compared(tmp_path)
    assert [arm.label for arm in found.arms] == ["grpo"] and found.cut == 20
    assert {u.what for u in found.unequal} == {
        "trainer.max_epochs",
        "callbacks.record.every",
        "callbacks.evaluation.before",
        "iterations done",
    }


def test_a_second_run_of_a_seed_and_a_copy_are_no_further_seeds(tmp_path: Path) -> None:
    several(tmp_path, 1, 2)
    write_run(tmp_path / "z-again", "grpo", 2, reward=0.6)
    shutil.copytree(tmp_path / "grpo-1-0", tmp_path / "z-copy")
    text = (tmp_path / "z-copy" / "summary.json").read_text().replace('"seed": 1', '"seed": 3')
    (tmp_path / "z-copy" / "summary.json").write_text(text)
    found = compared(tmp_path)
    assert list(found.arms[0].runs) == [1, 2]
    reasons = {out.folder.name: out.reason for out in found.left_out}
    assert "the same arm and seed as" in reasons["z-again"]
    assert "number for number the run of seed 1" in reasons["z-copy"]


def test_missing_seeds_are_named(tmp_path: Path) -> None:
    several(tmp_path, 1, 2, 3)
    several(tmp_path, 2, 4, algorithm="asymgrpo")
    assert compared(tmp_path).missing == {"grpo": [4], "asymgrpo": [1, 3]}


# ---- what is not equal ----


def test_what_differs_between_methods_is_listed(tmp_path: Path) -> None:
    def other_versions(summary: dict[str, Any]) -> None:
        summary["versions"]["torch"] = "2.14.0"
        summary["git_revision"] = "fedcba9876543210"
        summary["evaluation"]["before"]["eval/heldout/pass@1"] = 0.31

    several(tmp_path, 1, 2)
    changed = {"policy.path": "another", "policy.optimizer.weight_decay": 0.1, "rollout.group_size": 16}
    several(tmp_path, 1, 2, algorithm="asymgrpo", overrides=changed, change=other_versions)
    found = {u.what: u.values for u in compared(tmp_path).unequal}
    assert found["policy.path"] == {"null": "grpo", "another": "asymgrpo"}
    assert found["policy.optimizer.weight_decay"] == {"0": "grpo", "0.1": "asymgrpo"}
    assert found["version of torch"] == {"2.13.0": "grpo", "2.14.0": "asymgrpo"}
    assert found["git revision"] == {"0123456789ab": "grpo", "fedcba987654": "asymgrpo"}
    assert found["eval/heldout/pass@1 before training"] == {"0.25": "grpo", "0.31": "asymgrpo"}
    assert set(found) == {*changed, "version of torch", "git revision", "eval/heldout/pass@1 before training"}


def test_what_any_method_can_be_given_is_listed_where_methods_differ_in_it(tmp_path: Path) -> None:
    rules = {"_target_": "asym_lightning.algorithms.RolloutRules", "dynamic_sampling": 0}
    several(tmp_path, 1, overrides={"algo.rules": rules})
    given = {"algo.equal_scale": True, "algo.rules": {**rules, "dynamic_sampling": 10}, "algo.advantage.beta_pos": 0.7}
    several(tmp_path, 1, algorithm="asymgrpo", overrides=given)
    found = {u.what: u.values for u in compared(tmp_path).unequal}
    assert found == {  # beta_pos is the method's own
        "algo.equal_scale": {"false": "grpo", "true": "asymgrpo"},
        "algo.rules.dynamic_sampling": {"0": "grpo", "10": "asymgrpo"},
    }


def test_a_scale_that_only_one_method_was_swept_over_is_listed(tmp_path: Path) -> None:
    several(tmp_path, 1)
    for equal in (False, True):
        several(tmp_path, 1, algorithm="asymgrpo", overrides={"algo.equal_scale": equal})
    found = compared(tmp_path)
    assert {u.what: u.values for u in found.unequal} == {"values tried of algo.equal_scale": {"false": "grpo", "false, true": "asymgrpo"}}
    assert found.methods["asymgrpo"]["equal_scale"] == "false / true"
    assert found.opponents["asymgrpo, equal_scale true"] is found.baselines[0]


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


def test_a_run_that_differs_within_its_arm_is_named_by_seed(tmp_path: Path) -> None:
    several(tmp_path, 1, 2)
    several(tmp_path, 3, change=lambda summary: summary.update(git_revision=None))
    (found,) = compared(tmp_path).unequal
    assert found.values == {"0123456789ab": "grpo (seed 1, 2)", "unknown": "grpo (seed 3)"}


def test_a_sweep_that_one_method_did_not_get_is_listed(tmp_path: Path) -> None:
    for rate in (1e-4, 3e-4):
        several(tmp_path, 1, overrides={LR: rate})
    several(tmp_path, 1, algorithm="asymgrpo", overrides={LR: 1e-3})
    found = compared(tmp_path)
    assert {u.what: u.values for u in found.unequal} == {f"values tried of {LR}": {"1e-3": "asymgrpo", "1e-4, 3e-4": "grpo"}}
    assert found.opponents["asymgrpo, learning_rate 1e-3"] is None
    assert any("no run of the same setting" in note for note in found.notes)
    runs, _ = group(read_runs([tmp_path])[0])
    assert inequalities(runs) and len(runs) == 3


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
