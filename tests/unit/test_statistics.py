"""Statistics of a few seeds: numbers by hand, and no verdict without intervals that support it."""

from math import isclose
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from asym_lightning.analysis.statistics import (
    Paired,
    Verdict,
    holm,
    improvement,
    iqm,
    paired,
    profile,
    summarise,
    verdict,
)


def by_seed(*values: float) -> dict[int, float]:
    return dict(enumerate(values, start=1))


def test_a_paired_difference_by_hand() -> None:
    # Differences 1, 2, 3: mean 2, sd 1
    found = paired(by_seed(2, 4, 6), by_seed(1, 2, 3))
    assert found is not None and found.n == 3 and found.difference == 2
    half = 4.302653 / 3**0.5
    assert found.t_interval == pytest.approx((2 - half, 2 + half), rel=1e-6)
    # t = 2 sqrt 3 with two degrees of freedom.
    assert found.p_t == pytest.approx(0.0741799, rel=1e-5)
    assert found.p_sign_flip == found.smallest_p == 0.25


def test_the_sign_flip_test_by_hand() -> None:
    found = paired(by_seed(1, 2, 3, -1), by_seed(0, 0, 0, 0))
    # Of the 16 sums +-1 +-2 +-3 +-1, 3 are at least 5 and 3 at most -5.
    assert found is not None and found.p_sign_flip == 6 / 16 and found.smallest_p == 1 / 8


def test_only_shared_seeds_are_paired() -> None:
    found = paired({1: 1.0, 2: 5.0, 9: 100.0}, {2: 4.0, 1: 1.0, 7: -100.0})
    assert found is not None and found.n == 2 and found.difference == 0.5
    assert paired({1: 1.0}, {2: 1.0}) is None


def test_holm_by_hand() -> None:
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([0.5, None, 0.9]) == [1.0, None, 1.0]


def test_the_interquartile_mean_cuts_a_quarter_at_either_end() -> None:
    assert iqm(np.array([0.0, 1.0, 2.0, 100.0])) == 1.5
    assert iqm(np.array([8.0, 1.0, 7.0, 2.0, 6.0, 3.0, 5.0, 400.0])) == 5.25  # of 3, 5, 6, 7
    assert iqm(np.array([1.0, 2.0, 9.0])) == 4.0


def test_the_probability_of_improvement_counts_pairs() -> None:
    value, ends = improvement([1, 2, 3], [2, 2, 0])  # 1: 0 0 1; 2: .5 .5 1; 3: 1 1 1
    assert value == pytest.approx(6 / 9)
    assert ends is not None and 0 <= ends[0] <= value <= ends[1] <= 1
    assert improvement([1, 2, 3], [2, 2, 0], direction=-1)[0] == pytest.approx(3 / 9)
    assert improvement([1], [0]) == (1.0, None)


def test_a_performance_profile_by_hand() -> None:
    share, low, high = profile([1, 2, 3, 4], np.array([0.0, 1.0, 2.5, 4.0]))
    assert share.tolist() == [1.0, 0.75, 0.5, 0.0]
    assert (low <= share).all() and (share <= high).all() and low[0] == 1 and high[-1] == 0


def test_a_summary_of_one_seed_claims_no_spread() -> None:
    single = summarise([0.5])
    assert (single.n, single.mean, single.std) == (1, 0.5, None)
    assert (single.interval, single.iqm_interval) == (None, None)
    two = summarise([0.0, 1.0])
    assert two.mean == 0.5 and two.std == pytest.approx(0.5**0.5) and two.interval == (0.0, 1.0)


# ---- verdicts ----

CLEAR = (by_seed(0.71, 0.69, 0.72, 0.70, 0.68), by_seed(0.60, 0.59, 0.61, 0.62, 0.58))


def judge(values: dict[int, float], baseline: dict[int, float], direction: int = 1) -> Verdict:
    found = paired(values, baseline)
    return verdict(found, found.p_t if found else None, direction)


def test_clearly_different_arms() -> None:
    high, low = CLEAR
    assert judge(high, low) == "better" and judge(low, high) == "worse"
    assert judge(high, low, -1) == "worse" and judge(low, high, -1) == "better"
    assert judge(high, low, 0) == "higher" and judge(low, high, 0) == "lower"


def test_identical_arms_are_not_separated() -> None:
    assert judge(CLEAR[0], CLEAR[0]) == "not separated"
    assert improvement(list(CLEAR[0].values()), list(CLEAR[0].values()))[0] == 0.5


def test_two_shared_seeds_are_too_few_however_far_apart() -> None:
    assert judge(by_seed(1, 1.01), by_seed(0, 0.01)) == "too few seeds"
    assert judge({1: 1.0, 2: 1.0, 3: 1.0}, {3: 0.0, 4: 0.0, 5: 0.0}) == "too few seeds"
    assert judge({1: 1.0}, {2: 0.0}) == "too few seeds"


@pytest.mark.parametrize(
    ("seeds", "said"), [(3, "not separated"), (5, "not separated"), (6, "better")]
)
def test_seeds_without_spread_are_judged_by_their_signs_alone(seeds: int, said: str) -> None:
    # Each seed solved one problem more.
    ones = dict.fromkeys(range(seeds), 0.5 + 1 / 256)
    found = paired(ones, dict.fromkeys(range(seeds), 0.5))
    assert found and found.p_t == found.p_sign_flip == found.smallest_p == 2 / 2**seeds
    assert judge(ones, dict.fromkeys(range(seeds), 0.5)) == said
    same = paired(ones, ones)
    assert same
    assert same.p_t == 1
    assert same.t_interval == (0, 0)
    assert judge(ones, ones) == "not separated"


def test_holm_can_take_a_verdict_back() -> None:
    found = paired(*CLEAR)
    assert found
    assert verdict(found, 0.04, 1) == "better"
    assert verdict(found, 0.051, 1) == "not separated"


@pytest.mark.parametrize(
    "changed",
    [
        {"t_interval": (-0.01, 0.2)},
        {"bootstrap_interval": (-0.01, 0.2)},
        # Six seeds can give 1/32.
        {"p_sign_flip": 0.1},
        # Not all seeds have the same sign.
        {"n": 3, "smallest_p": 0.25, "p_sign_flip": 0.5},
    ],
)
def test_every_condition_is_needed(changed: dict[str, object]) -> None:
    good: dict[str, Any] = {
        "n": 6,
        "difference": 0.1,
        "t_interval": (0.05, 0.2),
        "bootstrap_interval": (0.06, 0.2),
        "p_t": 0.01,
        "smallest_p": 1 / 32,
        "p_sign_flip": 1 / 32,
    }
    assert verdict(Paired(**good), 0.01, 1) == "better"
    assert verdict(Paired(**{**good, **changed}), 0.01, 1) == "not separated"


numbers = st.lists(st.tuples(st.floats(-1, 1), st.floats(-1, 1)), min_size=2, max_size=7)


@settings(max_examples=40, deadline=None)
@given(pairs=numbers)
def test_swapping_the_arms_swaps_the_verdict(pairs: list[tuple[float, float]]) -> None:
    a, b = by_seed(*(x for x, _ in pairs)), by_seed(*(y for _, y in pairs))
    swapped = {"better": "worse", "worse": "better"}
    said, back = judge(a, b), judge(b, a)
    assert back == swapped.get(said, said)
    found = paired(a, b)
    assert found and found.t_interval
    if said in swapped:
        assert found.t_interval[0] > 0 or found.t_interval[1] < 0
    low, high = found.t_interval
    assert low - 1e-12 <= found.difference <= high + 1e-12


@settings(max_examples=25, deadline=None)
@given(pairs=numbers, order=st.randoms())
def test_a_shuffled_pairing_changes_nothing_about_unpaired_numbers(
    pairs: list[tuple[float, float]], order: object
) -> None:
    a, b = [x for x, _ in pairs], [y for _, y in pairs]
    shuffled = list(b)
    order.shuffle(shuffled)  # type: ignore[attr-defined]
    before, after = summarise(b), summarise(shuffled)
    assert isclose(before.mean, after.mean, abs_tol=1e-12)
    assert isclose(before.iqm, after.iqm, abs_tol=1e-12)
    assert isclose(improvement(a, b)[0], improvement(a, shuffled)[0], abs_tol=1e-12)
    first, second = paired(by_seed(*a), by_seed(*b)), paired(by_seed(*a), by_seed(*shuffled))
    assert first and second and isclose(first.difference, second.difference, abs_tol=1e-12)


@pytest.mark.parametrize("seeds", [3, 5])
def test_noise_is_rarely_called_a_winner(seeds: int) -> None:
    rng = np.random.default_rng(0)
    trials = []
    for _ in range(300):
        values, baseline = by_seed(*rng.normal(size=seeds)), by_seed(*rng.normal(size=seeds))
        trials.append(judge(values, baseline))
    # The level allows 5%; 0.075 is two standard errors above.
    assert sum(said != "not separated" for said in trials) / 300 <= 0.075
