"""The command compare.py: verdicts, methods, the folder of the report, and bad usage."""

import csv
import json
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from asym_lightning.analysis.command import main
from asym_lightning.analysis.outputs import TOOL, claim, statistics
from tests.support.synthetic import compared, several

Command = Callable[..., tuple[int, str, str]]


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    """A function that runs compare.py and returns exit status, stdout and stderr."""

    def run(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["compare.py", *map(str, arguments)])
        try:
            main()
            status = 0
        except SystemExit as stop:
            status = int(stop.code or 0)
        return status, *capsys.readouterr()

    return run


def test_verdicts_end_to_end(tmp_path: Path, command: Command) -> None:
    logs = tmp_path / "logs"
    several(logs, 1, 2, 3, 4, 5)
    for seed in range(1, 6):  # mean shift 0.1
        shift, entropy = 0.097 + 0.001 * seed, 0.25 + 0.001 * seed
        several(logs, seed, algorithm="asymgrpo", shift=shift, entropy=entropy)
    several(logs, 1, 2, algorithm="reinforce", shift=0.1)
    status, said, errors = command(logs, "--out", tmp_path / "report")
    assert (status, errors) == (0, "") and "reinforce lacks seed 3, 4, 5" in said
    stats = json.loads((tmp_path / "report" / "stats.json").read_text())
    verdicts = {(r["arm"], r["measure"]): r["verdict"] for r in stats["results"]}
    assert verdicts["asymgrpo", "reward/mean"] == "better"
    assert verdicts["asymgrpo", "entropy/policy"] == "higher"
    assert verdicts["asymgrpo", "solved/none"] == "not separated"
    assert verdicts["reinforce", "reward/mean"] == "too few seeds"
    assert verdicts["grpo", "reward/mean"] is None
    with (tmp_path / "report" / "table.csv").open() as file:
        rows = {(row["arm"], row["measure"]): row for row in csv.DictReader(file)}
    assert rows.keys() == verdicts.keys()
    row = rows["asymgrpo", "reward/mean"]
    assert float(row["difference"]) == pytest.approx(0.1)
    assert float(row["difference_t_low"]) > 0
    assert row["baseline"] == "grpo"
    assert float(row["smallest_p_sign_flip"]) == 2 / 2**5
    # The same runs give the same numbers.
    assert json.loads(json.dumps(statistics(compared(logs)))) == stats


def test_what_each_method_is_made_of_is_told(tmp_path: Path, command: Command) -> None:
    bonus = {"_target_": "asym_lightning.algorithms.EntropyBonus", "coef": 0.001}
    logs = tmp_path / "logs"
    several(logs, 1)
    betas = {"algo.advantage.beta_pos": 0.7, "algo.equal_scale": True}
    several(logs, 1, algorithm="asymgrpo", overrides=betas)
    entropy = {"algo.modulation.entropy_bonus": bonus, "algo.loss.clip_low": 0.3}
    several(logs, 1, algorithm="grpo_entropy", overrides=entropy)
    found = compared(logs).methods
    # All keys of the advantage, which is another function; of the loss only the keys that differ.
    assert found == {
        "grpo": {
            "equal_scale": "false",
            "advantage": "GroupStandardized",
            "loss": "clip_low 0.2",
            "modulation": "none",
        },
        "asymgrpo": {
            "equal_scale": "true",
            "advantage": "BetaFamily, beta_pos 0.7, beta_neg 0.4",
            "loss": "clip_low 0.2",
            "modulation": "none",
        },
        "grpo_entropy": {
            "equal_scale": "false",
            "advantage": "GroupStandardized",
            "loss": "clip_low 0.3",
            "modulation": "EntropyBonus, coef 1e-3",
        },
    }
    _, said, _ = command(logs, "--out", tmp_path / "report")
    advantage = "BetaFamily, beta_pos 0.7, beta_neg 0.4"
    line = f"equal_scale true; advantage {advantage}; loss clip_low 0.2; modulation none"
    assert f"  asymgrpo: {line}\n" in said
    text = (tmp_path / "report" / "report.html").read_text()
    assert text.count(f'<td class="text">{advantage}</td>') == 1
    assert json.loads((tmp_path / "report" / "stats.json").read_text())["methods"] == found


def test_that_all_else_is_equal_points_to_the_methods_settings(
    tmp_path: Path, command: Command
) -> None:
    several(tmp_path / "logs", 1)
    several(tmp_path / "logs", 1, algorithm="asymgrpo")
    command(tmp_path / "logs", "--out", tmp_path / "report")
    text = (tmp_path / "report" / "report.html").read_text()
    link = '<a href="#methods">the settings of each method</a>'
    assert f"Apart from {link}, seed, loggers and folders, all configs" in text


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
        assert status == 2
        assert errors.startswith("error: ")
        assert errors.count("\n") == 1
        assert message in errors
    assert not (tmp_path / "out").exists()
    assert [p.name for p in (tmp_path / "mine").iterdir()] == ["thesis.txt"]
