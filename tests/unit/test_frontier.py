"""Frontiers: the best value that a method reaches at a given reward."""

from collections.abc import Iterator

import numpy as np
import pytest

from asym_lightning.analysis import frontier
from asym_lightning.analysis.arms import Arm
from asym_lightning.analysis.frontier import Gap, frontiers, gaps, reached
from asym_lightning.analysis.statistics import verdict

Y = "eval/heldout/pass@8"
# (reward, y) of three learning rates; the last of GRPO is worse in both.
GRPO = [(0.60, 0.90), (0.70, 0.80), (0.65, 0.70)]
# Points like those of GRPO in the study.
LINE = [(0.44, 0.94), (0.52, 0.935), (0.585, 0.915), (0.60, 0.865), (0.54, 0.76)]
OTHER = [(0.58, 0.95), (0.68, 0.86), (0.70, 0.84)]


def arms(**methods: list[tuple[float, float]]) -> list[Arm]:
    return [
        Arm(f"{name}, rate {i}", name, {"rate": i}, runs={})
        for name, points in methods.items()
        for i in range(len(points))
    ]


def values(
    seeds: int, noise: float = 0.002, **methods: list[tuple[float, float]]
) -> dict[str, dict[str, dict[int, float]]]:
    rng = np.random.default_rng(0)
    found: dict[str, dict[str, dict[int, float]]] = {}
    for name, points in methods.items():
        for i, (x, y) in enumerate(points):
            shifts = rng.normal(0, noise, (seeds, 2))
            found[f"{name}, rate {i}"] = {
                "reward/mean": {s: x + shifts[s, 0] for s in range(seeds)},
                Y: {s: y + shifts[s, 1] for s in range(seeds)},
            }
    return found


def test_a_frontier_by_hand() -> None:
    at = np.array([0.5, 0.60, 0.65, 0.70, 0.9])
    # The dominated point is not on the frontier. The frontier is flat below its lowest reward,
    # a straight line between two points, and constant above its highest reward.
    np.testing.assert_allclose(reached(np.array(GRPO), at), [0.90, 0.90, 0.85, 0.80, 0.80])
    np.testing.assert_allclose(reached(np.array(GRPO)[[2, 0, 1]], at), reached(np.array(GRPO), at))
    dominated = np.array([[0.6, 0.9], [0.7, 0.95]])  # the second is better in both
    np.testing.assert_allclose(reached(dominated, np.array([0.6, 0.65, 0.7])), [0.95] * 3)


def test_of_equal_rewards_the_higher_counts() -> None:
    points = np.array([[0.6, 0.9], [0.6, 0.8], [0.7, 0.7]])
    np.testing.assert_allclose(reached(points, np.array([0.6, 0.65])), [0.9, 0.8])


def test_a_frontier_above_is_said_with_its_range() -> None:
    given = values(5, grpo=GRPO, other=OTHER)
    found = frontiers(arms(grpo=GRPO, other=OTHER), given, Y)
    assert [f.method for f in found] == ["grpo", "other"] and found[0].band is not None
    (gap,) = gaps(found, given, 1)
    assert gap.verdict == "better" and not gap.below
    assert gap.above == [(gap.grid[0], gap.grid[-1])]
    assert gap.above[0] == pytest.approx((0.60, 0.70), abs=0.005)
    # 0.95 - 0.09 (r - 0.58) / 0.1 against 0.9 - (r - 0.6) up to 0.68,
    # then 0.86 - 0.02 (r - 0.68) / 0.02.
    at = np.array([0.60, 0.68, 0.70])
    np.testing.assert_allclose(np.interp(at, gap.grid, gap.gap), [0.032, 0.04, 0.04], atol=0.006)
    assert gap.mean and gap.mean.t_interval and gap.mean.t_interval[0] > 0
    assert "other against grpo: better. Over reward 0.6" in gap.statement
    assert "by thirds of this range: above from 0.6" in gap.statement


def test_frontiers_that_cross_have_no_winner() -> None:
    crossing = [(0.58, 0.95), (0.64, 0.88), (0.70, 0.70)]
    given = values(5, 0.001, grpo=GRPO, other=crossing)
    (gap,) = gaps(frontiers(arms(grpo=GRPO, other=crossing), given, Y), given, 1)
    assert gap.above and gap.below and gap.verdict == "not separated"
    # They cross at 0.65, where 0.9 - (r - 0.6) = 0.88 - 3 (r - 0.64)
    third = (gap.grid[-1] - gap.grid[0]) / 3
    assert gap.above[0] == pytest.approx((gap.grid[0], gap.grid[0] + third))
    assert gap.below[0] == pytest.approx((gap.grid[-1] - third, gap.grid[-1]))
    assert "not separated, the frontiers cross" in gap.statement


@pytest.fixture
def no_bands(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(frontier, "RESAMPLES", 2)


def noisy(trials: int, seeds: int, shift: float) -> Iterator[Gap]:
    """Comparisons of GRPO's frontier with one ``shift`` above it.

    Reward and y of a run are correlated, and so are the runs of a seed.
    """
    rng = np.random.default_rng(seeds)
    both = arms(grpo=LINE, other=LINE)
    for _ in range(trials):
        given: dict[str, dict[str, dict[int, float]]] = {
            arm.label: {"reward/mean": {}, Y: {}} for arm in both
        }
        for s in range(seeds):
            common = rng.normal(0, 0.01, 2)
            for arm in both:
                own = rng.multivariate_normal([0, 0], [[4e-4, -1e-4], [-1e-4, 2e-4]])
                x, y = np.add(LINE[arm.setting["rate"]], common + own)
                given[arm.label]["reward/mean"][s] = x
                given[arm.label][Y][s] = y + shift * (arm.method == "other")
        yield gaps(frontiers(both, given, Y), given, 1)[0]


@pytest.mark.parametrize("seeds", [3, 5])
@pytest.mark.usefixtures("no_bands")
def test_of_equal_methods_few_have_a_range_and_hardly_any_cross(seeds: int) -> None:
    found = list(noisy(200, seeds, 0.0))
    # Two standard errors above 5%; a test of every single reward would give 69%.
    assert sum(bool(gap.above or gap.below) for gap in found) / 200 <= 0.08
    assert sum(bool(gap.above and gap.below) for gap in found) <= 1
    assert sum(gap.verdict != "not separated" for gap in found) / 200 <= 0.08


@pytest.mark.usefixtures("no_bands")
def test_a_true_gap_keeps_its_verdict() -> None:
    """A rule about single rewards would lose it where chance reverses the gap."""
    found = list(noisy(100, 5, 0.03))
    better = [gap for gap in found if gap.mean and verdict(gap.mean, gap.p_holm, 1) == "better"]
    assert len(better) > 50
    assert all(gap.verdict == verdict(gap.mean, gap.p_holm, 1) for gap in found)


def test_the_same_points_are_not_separated() -> None:
    given = values(5, 0.01, grpo=GRPO, other=GRPO)
    (gap,) = gaps(frontiers(arms(grpo=GRPO, other=GRPO), given, Y), given, 1)
    assert gap.verdict == "not separated"


def test_two_seeds_are_too_few_for_a_frontier() -> None:
    given = values(2, grpo=GRPO, other=OTHER)
    (gap,) = gaps(frontiers(arms(grpo=GRPO, other=OTHER), given, Y), given, 1)
    assert gap.verdict == "too few seeds" and "too few shared seeds (2)" in gap.statement


def test_ranges_that_do_not_overlap_are_said() -> None:
    far = [(x + 0.2, y) for x, y in OTHER]
    given = values(5, grpo=GRPO, other=far)
    (gap,) = gaps(frontiers(arms(grpo=GRPO, other=far), given, Y), given, 1)
    assert not gap.grid.size and gap.verdict is None and "do not overlap" in gap.statement


def test_a_single_setting_is_a_point_and_no_frontier() -> None:
    given = values(5, grpo=GRPO, other=OTHER[:1])
    found = frontiers(arms(grpo=GRPO, other=OTHER[:1]), given, Y)
    assert len(found) == 2 and gaps(found, given, 1) == []


def test_seeds_that_a_setting_lacks_are_not_used() -> None:
    given = values(4, grpo=GRPO, other=OTHER)
    del given["other, rate 1"][Y][2]
    found = frontiers(arms(grpo=GRPO, other=OTHER), given, Y)
    assert found[0].seeds == [0, 1, 2, 3] and found[1].seeds == [0, 1, 3]
    assert gaps(found, given, 1)[0].seeds == [0, 1, 3]


def test_more_settings_are_more_tries_and_that_is_said() -> None:
    more = [*OTHER, (0.62, 0.90), (0.64, 0.88)]
    given = values(5, grpo=GRPO, other=more)
    (gap,) = gaps(frontiers(arms(grpo=GRPO, other=more), given, Y), given, 1)
    assert gap.settings == (5, 3) and "5 settings against 3" in gap.statement
