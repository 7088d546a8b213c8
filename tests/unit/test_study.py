"""The study's plan, its numbers and its verdicts, on rows and runs with chosen numbers."""

import sys
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from benchmarks.study import claims
from benchmarks.study.__main__ import main
from benchmarks.study.judge import Claim, Ruling, at, best, front, rise, rule, same, trend
from benchmarks.study.plan import FULL, QUICK, RATES, Part, pending
from benchmarks.study.records import collect, load, save, tidy
from tests.support.study import rows_of
from tests.support.synthetic import write_run


def arm(
    method: str, values: dict[float, tuple[float, float]], seeds: int = 3, jitter: float = 0.001
) -> pd.DataFrame:
    """Runs of part p, with a small difference between seeds.

    Args:
        values: learning rate -> (reward, pass@8).
    """
    rows = []
    for i, (rate, (reward, y)) in enumerate(values.items()):
        for seed in range(1, seeds + 1):
            row = {"part": "p", "method": method, "learning_rate": rate, "seed": seed}
            pass_at_8 = y + jitter * (seed - 2) * (-1) ** i
            rows.append({**row, "reward": reward, "pass@8": pass_at_8})
    return pd.DataFrame(rows)


def ruling(find: Any, rows: pd.DataFrame, expected: int = 1) -> Any:
    """The ruling on a single claim."""
    return rule([Claim("", "", expected, find=find)], rows)[0]


A, B = {"part": "p", "method": "a"}, {"part": "p", "method": "b"}
LINE = dict(zip(RATES, [(0.3, 0.9), (0.4, 0.88), (0.5, 0.86), (0.6, 0.8), (0.7, 0.7)], strict=True))


JUDGED = (Ruling.HOLDS, Ruling.DOES_NOT_HOLD, Ruling.NOT_SEPARATED)


@pytest.mark.parametrize(("plan", "judged"), [(FULL, claims.FULL), (QUICK, claims.QUICK)])
def test_with_every_run_there_every_claim_is_judged(
    plan: tuple[Part, ...], judged: dict[str, list[Claim]]
) -> None:
    rows = rows_of(*plan)
    assert len(rows) == sum(part.arms * len(part.seeds) for part in plan)
    for members in judged.values():
        for ruled in rule(members, rows):
            assert ruled.ruling in JUDGED, ruled.claim
            assert ruled.finding.paired
            assert ruled.finding.paired.t_interval
            assert ruled.p_holm is not None
    no_rows = rows[rows["part"] == "none"]
    for members in judged.values():
        assert all(ruled.ruling is Ruling.NOT_RUN for ruled in rule(members, no_rows))


def test_the_difference_of_two_arms_is_taken_seed_by_seed_and_has_a_side() -> None:
    rows = pd.concat([arm("a", {3e-4: (0.5, 0.9)}), arm("b", {3e-4: (0.5, 0.8)}, jitter=0.002)])
    found = ruling(at(A, B, "pass@8"), rows)
    assert found.finding.paired.n == 3 and found.finding.paired.difference == pytest.approx(0.1)
    assert found.ruling is Ruling.HOLDS
    assert ruling(at(A, B, "pass@8"), rows, expected=-1).ruling is Ruling.DOES_NOT_HOLD
    assert ruling(at(A, B, "pass@8"), rows[rows["seed"] < 3]).ruling is Ruling.TOO_FEW
    assert ruling(at(A, {**B, "method": "c"}, "pass@8"), rows).ruling is Ruling.NOT_RUN
    noisy = pd.concat([arm("a", {3e-4: (0.5, 0.81)}, jitter=0.1), arm("b", {3e-4: (0.5, 0.8)})])
    assert ruling(at(A, B, "pass@8"), noisy).ruling is Ruling.NOT_SEPARATED
    with pytest.raises(ValueError, match="name a learning rate"):
        ruling(at(A, B, "pass@8"), pd.concat([rows, arm("a", {6e-4: (0.5, 0.9)})]))


def test_each_method_is_taken_at_its_best_rate_and_only_with_all_of_them() -> None:
    other = {rate: (r, y - 0.05 * (rate == RATES[0])) for rate, (r, y) in LINE.items()}
    rows = pd.concat([arm("a", LINE), arm("b", other)])
    found = ruling(best(A, B, "pass@8"), rows)
    assert found.finding.paired.difference == pytest.approx(0.9 - 0.88)
    assert found.finding.remark == "at 7.5e-05 and 0.00015"
    some_rates = rows[rows["learning_rate"] < 1e-3]
    assert ruling(best(A, B, "pass@8"), some_rates).ruling is Ruling.NOT_RUN
    assert ruling(front(A, B, "pass@8"), some_rates).ruling is Ruling.NOT_RUN


def test_at_the_same_rate_is_the_mean_over_all_of_them() -> None:
    other = {rate: (r, y - 0.01 * i) for i, (rate, (r, y)) in enumerate(LINE.items())}
    found = ruling(same(A, B, "pass@8"), pd.concat([arm("a", LINE), arm("b", other, jitter=0.002)]))
    assert found.finding.paired.difference == pytest.approx(0.02, abs=1e-3)
    assert found.ruling is Ruling.HOLDS
    single = pd.concat([arm("a", LINE), arm("b", {3e-4: (0.5, 0.8)})])
    assert ruling(same(A, B, "pass@8"), single).ruling is Ruling.NOT_RUN


def test_a_frontier_that_lies_higher_everywhere_holds_and_one_that_crosses_does_not() -> None:
    lower = {rate: (r, y - 0.05) for rate, (r, y) in LINE.items()}
    rows = pd.concat([arm("a", LINE), arm("b", lower, jitter=0.002)])
    found = ruling(front(A, B, "pass@8"), rows)
    assert found.finding.paired.difference == pytest.approx(0.05, abs=2e-3)
    assert found.finding.remark == "reward 0.30 to 0.70"
    assert found.ruling is Ruling.HOLDS
    first = arm("a", {rate: (y, r) for rate, (r, y) in LINE.items()})
    second = arm("b", {rate: (y, r) for rate, (r, y) in lower.items()}, jitter=0.002)
    swapped = pd.concat([first, second])
    turned = ruling(front(A, B, "reward", against="pass@8"), swapped)
    assert turned.finding.paired.difference == pytest.approx(0.05, abs=2e-3)
    assert turned.finding.remark.startswith("pass@8 ")
    tilted = {rate: (r, y + 0.2 * (r - 0.45)) for rate, (r, y) in LINE.items()}
    rows = pd.concat([arm("a", LINE), arm("b", tilted, jitter=0.002)])
    crossing = ruling(front(A, B, "pass@8"), rows)
    assert crossing.finding.crossing and crossing.ruling is Ruling.NOT_SEPARATED
    apart = {rate: (r + 0.5, y) for rate, (r, y) in LINE.items()}
    rows = pd.concat([arm("a", LINE), arm("b", apart)])
    remark = ruling(front(A, B, "pass@8"), rows).finding.remark
    assert remark == "their ranges of reward do not overlap"


def test_a_trend_is_the_slope_with_the_other_term_held() -> None:
    cells = [(a, b, s) for a in (0.0, 0.5, 1.0) for b in (0.0, 0.4, 1.0) for s in (1, 2, 3)]
    rows = pd.DataFrame(cells, columns=["beta_pos", "beta_neg", "seed"])
    rows["y"] = [2 * a - 3 * b + 0.01 * s * a for a, b, s in cells]
    found = ruling(trend({}, "y", lambda t: [t["beta_pos"], t["beta_neg"]]), rows)
    assert found.finding.paired.difference == pytest.approx(2.02) and found.ruling is Ruling.HOLDS

    def difference_and_sum(table: pd.DataFrame) -> list[pd.Series]:
        return [table["beta_pos"] - table["beta_neg"], table["beta_pos"] + table["beta_neg"]]

    turned = ruling(trend({}, "y", difference_and_sum), rows[rows["seed"] == 1])
    assert turned.finding.paired.difference == pytest.approx((2.01 + 3) / 2)
    assert turned.ruling is Ruling.TOO_FEW
    # Seed 1 lacks a cell.
    lacking = ruling(trend({}, "y", lambda t: [t["beta_pos"]]), rows.drop(rows.index[0]))
    assert lacking.finding.paired.n == 2


def test_holms_correction_is_over_the_family() -> None:
    rows = pd.concat([arm("a", {3e-4: (0.5, 0.9)}), arm("b", {3e-4: (0.5, 0.8)}, jitter=0.01)])
    claim = Claim("", "", 1, find=at(A, B, "pass@8"))
    alone, family = rule([claim], rows)[0], rule([claim] * 40, rows)[0]
    assert family.p_holm == pytest.approx(40 * alone.p_holm)
    assert (alone.ruling, family.ruling) == (Ruling.HOLDS, Ruling.NOT_SEPARATED)
    later = Claim("", "", 1, find=at(A, {"part": "none"}, "pass@8"))
    first, *others = rule([claim] + [later] * 39, rows)
    assert first.p_holm == pytest.approx(40 * alone.p_holm)
    assert all(r.p_holm is None for r in others)


def test_what_is_missing_of_a_part_is_run_seed_by_seed(tmp_path: Path) -> None:
    part = next(p for p in FULL if p.name == "rivals")
    assert (part.arms, part.seeds) == (20, [1, 2, 3, 4, 5])
    done = [("rivals", 1)] * 20 + [("rivals", 2)] * 19 + [("frontier", 3)] * 40
    assert pending(part, [], done) == [2, 3, 4, 5] and pending(part, [1, 2], done) == [2]
    command = part.command([2, 3], tmp_path, 2)
    folder = f"hydra.sweep.dir={tmp_path / 'rivals'}"
    assert {"seed=2,3", folder, "hydra.launcher.n_jobs=2"} <= set(command)


def test_a_run_becomes_a_row(tmp_path: Path) -> None:
    part = Part("frontier", "frontier")
    folder = tmp_path / "frontier"
    rate = {"policy.optimizer.learning_rate": 6e-4}
    write_run(folder / "one", "asymgrpo", 2, reward=0.6, entropy=0.25, overrides=rate)
    write_run(folder / "two", status="failed")
    rows, said = collect([part, Part("rivals", "rivals")], tmp_path)
    row = rows.iloc[0]
    assert len(rows) == 1 and len(said) == 1 and "failed" in said[0]
    assert (row["part"], row["method"], row["seed"]) == ("frontier", "asymgrpo", 2)
    assert (row["learning_rate"], row["beta_pos"]) == (6e-4, 0.9)
    assert row["reward"] == pytest.approx(0.6)
    assert row["entropy"] == pytest.approx(0.25)
    assert row["solved"] == 1 - row["unsolved"]
    # The value that tests/support/synthetic.py writes.
    assert row["covariance_0.50"] == pytest.approx(0.05, abs=0.01)
    save(rows, tmp_path / "runs.csv")
    again = tidy(load(tmp_path / "runs.csv"))
    assert again["pass@8"].iloc[0] == pytest.approx(row["pass@8"], rel=1e-5)
    assert list(again.columns) == list(rows.columns)
    # The same run from the file and from its folder is one row.
    assert len(tidy(pd.concat([again, rows]))) == 1


def test_the_covariance_is_judged_quarter_against_quarter() -> None:
    # The covariance rises, then falls a little.
    quarters = {"covariance_0.00": 0.0, "covariance_0.50": 0.15, "covariance_0.75": 0.14}
    rows = pd.DataFrame({"part": "p", "method": "a", "seed": [1, 2, 3]})
    for name, value in quarters.items():
        rows[name] = value + 0.001 * rows["seed"] * value
    up = ruling(rise(A, "covariance_0.00", "covariance_0.50"), rows)
    down = ruling(rise(A, "covariance_0.50", "covariance_0.75"), rows)
    assert up.finding.paired.difference == pytest.approx(0.15, abs=1e-3)
    assert up.ruling is Ruling.HOLDS
    assert down.finding.paired.difference == pytest.approx(-0.01, abs=1e-3)
    assert down.ruling is Ruling.DOES_NOT_HOLD


@pytest.mark.parametrize(
    ("given", "told"),
    [(["--parts", "nothing"], "there are frontier"), (["--report"], "no finished run")],
)
def test_what_cannot_be_is_told(
    given: list[str],
    told: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    folders = ["--folder", str(tmp_path / "none"), "--out", str(tmp_path)]
    monkeypatch.setattr(sys, "argv", ["study", *given, *folders])
    with pytest.raises(SystemExit) as ended:
        main()
    assert told in f"{ended.value.code}{capsys.readouterr().err}"
