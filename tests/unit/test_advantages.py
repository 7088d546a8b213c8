"""Advantages against a table of numbers, numbers worked by hand, and properties."""

import math
import random
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from asym_lightning.algorithms import BetaFamily, GroupStandardized, MeanCentered
from asym_lightning.types import ConfigError

# (A_pos, A_neg) = ((1-p)/p)^beta_pos, -(p/(1-p))^beta_neg to four places; p = 1/8 .. 7/8 (G = 8).
# Key: (beta_pos, beta_neg).
TABLE: dict[tuple[float, float], list[tuple[float, float]]] = {
    (0, 0): [(1, -1)] * 7,
    (0.5, 0.5): [
        (2.6458, -0.3780),
        (1.7321, -0.5774),
        (1.2910, -0.7746),
        (1, -1),
        (0.7746, -1.2910),
        (0.5774, -1.7321),
        (0.3780, -2.6458),
    ],
    (0.9, 0.4): [
        (5.7622, -0.4592),
        (2.6879, -0.6444),
        (1.5837, -0.8152),
        (1, -1),
        (0.6314, -1.2267),
        (0.3720, -1.5518),
        (0.1735, -2.1779),
    ],
    (0.5, 0): [
        (2.6458, -1),
        (1.7321, -1),
        (1.2910, -1),
        (1, -1),
        (0.7746, -1),
        (0.5774, -1),
        (0.3780, -1),
    ],
    (0, 0.5): [
        (1, -0.3780),
        (1, -0.5774),
        (1, -0.7746),
        (1, -1),
        (1, -1.2910),
        (1, -1.7321),
        (1, -2.6458),
    ],
    (1, 0): [(7, -1), (3, -1), (1.6667, -1), (1, -1), (0.6, -1), (0.3333, -1), (0.1429, -1)],
}
BETAS = st.floats(0, 2, allow_nan=False)
GROUPS = st.lists(st.integers(0, 1), min_size=2, max_size=16)
MIXED = GROUPS.filter(lambda group: 0 < sum(group) < len(group))


def binary(successes: int, size: int = 8, dtype: torch.dtype = torch.float64) -> torch.Tensor:
    """One group [1, size], the successes first."""
    return torch.tensor([[1.0] * successes + [0.0] * (size - successes)], dtype=dtype)


def as_rewards(group: list[int]) -> torch.Tensor:
    return torch.tensor([group], dtype=torch.float64)


@pytest.mark.parametrize("betas", list(TABLE))
def test_the_two_powers_of_the_odds(betas: tuple[float, float]) -> None:
    rewards = torch.cat([binary(count) for count in range(1, 8)])
    advantages = BetaFamily(*betas)(rewards)
    for count, (positive, negative) in zip(range(1, 8), TABLE[betas], strict=True):
        expected = torch.tensor([positive] * count + [negative] * (8 - count), dtype=torch.float64)
        torch.testing.assert_close(advantages[count - 1], expected, rtol=0, atol=5.1e-5)


def test_values_land_on_the_right_rollouts() -> None:
    advantages = BetaFamily(1, 2)(torch.tensor([[0.0, 1.0, 0.0, 0.0], [1.0, 0.0, 1.0, 1.0]]))
    assert advantages.tolist()[0] == pytest.approx([-1 / 9, 3, -1 / 9, -1 / 9])  # odds 1/3
    assert advantages.tolist()[1] == pytest.approx([1 / 3, -9, 1 / 3, 1 / 3])  # odds 3


@pytest.mark.parametrize(
    ("betas", "degenerate", "all_wrong", "all_right"),
    [
        ((0.9, 0.4), "keep", 0, 0),
        ((0, 0), "keep", -1, 1),
        ((0.5, 0), "keep", -1, 0),
        ((0, 0.5), "keep", 0, 1),
        ((0, 0), "zero", 0, 0),
        ((0.5, 0), "zero", 0, 0),
    ],
)
def test_degenerate_groups(
    betas: tuple[float, float], degenerate: str, all_wrong: float, all_right: float
) -> None:
    estimator = BetaFamily(*betas, degenerate_groups=degenerate)  # type: ignore[arg-type]
    advantages = estimator(torch.cat([binary(0), binary(8), binary(4)]))
    assert advantages[0].tolist() == [all_wrong] * 8
    assert advantages[1].tolist() == [all_right] * 8
    assert advantages[2].tolist() == [1] * 4 + [-1] * 4  # a mixed group is never touched


@pytest.mark.parametrize(("boundary", "at_one"), [("clamp", math.sqrt(7)), ("zero", 0.0)])
def test_flip_positive_mirrors_the_curve(boundary: Any, at_one: float) -> None:
    estimator = BetaFamily(0.5, 0, flip="positive", flip_boundary=boundary)
    for count in range(1, 8):
        advantages = estimator(binary(count))[0]
        # The value of Pos-Only at 1 - p.
        assert advantages[0].item() == pytest.approx(math.sqrt(count / (8 - count)))
        assert advantages[-1].item() == -1
    assert estimator(binary(8))[0].tolist() == pytest.approx([at_one] * 8)
    assert estimator(binary(0))[0].tolist() == [-1] * 8


@pytest.mark.parametrize(("boundary", "at_zero"), [("clamp", -math.sqrt(7)), ("zero", 0.0)])
def test_flip_negative_mirrors_the_curve(boundary: Any, at_zero: float) -> None:
    estimator = BetaFamily(0, 0.5, flip="negative", flip_boundary=boundary)
    for count in range(1, 8):
        advantages = estimator(binary(count))[0]
        assert advantages[0].item() == 1
        assert advantages[-1].item() == pytest.approx(-math.sqrt((8 - count) / count))
    assert estimator(binary(0))[0].tolist() == pytest.approx([at_zero] * 8)
    assert estimator(binary(8))[0].tolist() == [1] * 8


def test_flip_of_a_constant_curve_is_that_curve_and_zero_wins_over_clamp() -> None:
    assert BetaFamily(0, 0, flip="positive", flip_boundary="zero")(binary(8))[0].tolist() == [1] * 8
    zeroed = BetaFamily(0.5, 0, flip="positive", degenerate_groups="zero")
    assert zeroed(binary(8))[0].tolist() == [0] * 8


@given(MIXED, BETAS, BETAS, st.randoms())
def test_permuting_a_group_permutes_its_advantages(
    group: list[int], b_pos: float, b_neg: float, random: random.Random
) -> None:
    order = list(range(len(group)))
    random.shuffle(order)
    for estimator in (BetaFamily(b_pos, b_neg), GroupStandardized(), MeanCentered()):
        advantages = estimator(as_rewards(group))
        torch.testing.assert_close(estimator(as_rewards(group)[:, order]), advantages[:, order])


@given(MIXED, st.floats(0, 1))
def test_zero_sum_when_the_betas_add_to_one(group: list[int], b_pos: float) -> None:
    advantages = BetaFamily(b_pos, 1 - b_pos)(as_rewards(group))
    assert abs(advantages.sum().item()) < 1e-9


@given(MIXED.filter(lambda group: 2 * sum(group) != len(group)), BETAS, BETAS)
def test_no_zero_sum_otherwise(group: list[int], b_pos: float, b_neg: float) -> None:
    if abs(b_pos + b_neg - 1) > 1e-3:
        assert abs(BetaFamily(b_pos, b_neg)(as_rewards(group)).sum().item()) > 1e-6


@given(MIXED, BETAS, BETAS)
def test_ratio_of_the_gradient_masses(group: list[int], b_pos: float, b_neg: float) -> None:
    advantages = BetaFamily(b_pos, b_neg)(as_rewards(group))
    odds_against = (len(group) - sum(group)) / sum(group)
    ratio = advantages.clamp(min=0).sum() / -advantages.clamp(max=0).sum()
    assert ratio.item() == pytest.approx(odds_against ** (b_pos + b_neg - 1), rel=1e-9)


@given(GROUPS)
def test_half_half_is_grpo_and_the_sample_std_rescales_it(group: list[int]) -> None:
    rewards, size = as_rewards(group), len(group)
    family = BetaFamily(0.5, 0.5)(rewards)
    torch.testing.assert_close(GroupStandardized(ddof=0, eps=0)(rewards), family)
    torch.testing.assert_close(
        GroupStandardized(ddof=1, eps=0)(rewards), family * math.sqrt((size - 1) / size)
    )


FLIPS = st.sampled_from(["none", "positive", "negative"])
BOUNDARIES = st.sampled_from(["clamp", "zero"])


@settings(max_examples=50)
@given(GROUPS, BETAS, BETAS, FLIPS, BOUNDARIES)
def test_finite_and_float32_is_the_rounded_float64(
    group: list[int], b_pos: float, b_neg: float, flip: Any, boundary: Any
) -> None:
    estimator = BetaFamily(b_pos, b_neg, flip=flip, flip_boundary=boundary)
    double, single = estimator(as_rewards(group)), estimator(as_rewards(group).float())
    assert double.isfinite().all() and single.dtype == torch.float32
    assert torch.equal(double.float(), single)
    assert (single[as_rewards(group) == 1] >= 0).all()
    assert (single[as_rewards(group) == 0] <= 0).all()


def test_dtypes() -> None:
    from_integers = BetaFamily(0.9, 0.4)(torch.tensor([[1, 0, 0, 0]]))
    assert from_integers.tolist()[0] == pytest.approx([3**0.9] + [-(3**-0.4)] * 3)
    assert BetaFamily(0, 0)(torch.tensor([[True, False]])).tolist() == [[1, -1]]
    for estimator in (BetaFamily(0.9, 0.4), GroupStandardized(), MeanCentered()):
        assert estimator(binary(3, dtype=torch.float32)).dtype == torch.float32
        assert estimator(torch.zeros(0, 8)).shape == (0, 8)


def test_group_standardized_by_hand() -> None:
    # p = 1/4: deviations 3/4 and -1/4, squares sum to 12/16 = 3/4.
    rewards = binary(1, size=4)
    for ddof, eps, expected in (
        (0, 0, [math.sqrt(3)] + [-1 / math.sqrt(3)] * 3),  # std sqrt(3)/4
        (1, 0, [1.5] + [-0.5] * 3),  # std 1/2
        (1, 0.25, [1.0] + [-1 / 3] * 3),
    ):
        advantages = GroupStandardized(ddof=ddof, eps=eps)(rewards)
        assert advantages[0].tolist() == pytest.approx(expected, rel=1e-14)
    # The defaults are verl's.
    first = GroupStandardized()(rewards)[0, 0].item()
    assert first == pytest.approx(0.75 / (0.5 + 1e-6), rel=1e-14)
    graded = torch.tensor([[1.0, 2.0, 3.0]], dtype=torch.float64)
    assert GroupStandardized(ddof=1, eps=0)(graded)[0].tolist() == pytest.approx([-1, 0, 1])


def test_mean_centered_by_hand() -> None:
    assert MeanCentered()(binary(2))[0].tolist() == [0.75] * 2 + [-0.25] * 6
    assert MeanCentered()(torch.tensor([[0.5, 1.0, 0.0, 0.5]])).tolist() == [[0, 0.5, -0.5, 0]]


@pytest.mark.parametrize(
    "estimator",
    [GroupStandardized(), GroupStandardized(eps=0), GroupStandardized(0, 0), MeanCentered()],
)
@pytest.mark.parametrize("value", [0.0, 1.0, 0.1, 0.7, 1 / 3, -2.3])
@pytest.mark.parametrize("size", [2, 3, 7, 8, 10])
def test_constant_groups_give_exactly_zero(
    estimator: GroupStandardized, value: float, size: int
) -> None:
    for dtype in (torch.float32, torch.float64):
        assert estimator(torch.full((2, size), value, dtype=dtype)).tolist() == [[0.0] * size] * 2


def test_a_constant_group_does_not_touch_its_neighbour() -> None:
    advantages = GroupStandardized(1, 0)(torch.tensor([[0.1] * 4, [1.0, 0.0, 0.0, 0.0]]))
    assert advantages[0].tolist() == [0] * 4
    assert advantages[1].tolist() == pytest.approx([1.5] + [-0.5] * 3)


def test_graded_rewards_need_a_threshold() -> None:
    graded = torch.tensor([[0.2, 0.5, 0.9, 1.0]])
    with pytest.raises(ValueError, match="set success_threshold"):
        BetaFamily(0.9, 0.4)(graded)
    advantages = BetaFamily(1, 1, success_threshold=0.5)(graded)  # 0.5 itself is a success
    assert advantages[0].tolist() == pytest.approx([-3, 1 / 3, 1 / 3, 1 / 3])


@pytest.mark.parametrize(
    "estimator",
    [
        BetaFamily(0, 0),
        BetaFamily(0, 0, success_threshold=0.5),
        GroupStandardized(),
        MeanCentered(),
    ],
)
def test_bad_rewards(estimator: BetaFamily) -> None:
    assert estimator.needs_group
    with pytest.raises(ValueError, match=r"rollout\.group_size=1"):
        estimator(torch.ones(3, 1))
    with pytest.raises(ValueError, match=r"\[groups, G\]"):
        estimator(torch.ones(8))
    for value in (math.nan, math.inf):
        with pytest.raises(ValueError, match="finite"):
            estimator(torch.tensor([[1.0, value]]))


BOTH_ZERO = {"beta_pos": 0, "beta_neg": 0}


@pytest.mark.parametrize(
    ("key", "estimator", "arguments"),
    [
        ("beta_pos=-1", BetaFamily, {"beta_pos": -1}),
        ("beta_neg=-0.1", BetaFamily, {"beta_neg": -0.1}),
        ("beta_pos=nan", BetaFamily, {"beta_pos": math.nan}),
        ("beta_neg=inf", BetaFamily, {"beta_neg": math.inf}),
        ("beta_pos=big", BetaFamily, {"beta_pos": "big"}),
        ("degenerate_groups=drop", BetaFamily, {"degenerate_groups": "drop"}),
        ("flip=both", BetaFamily, {"flip": "both"}),
        ("flip_boundary=one", BetaFamily, {"flip_boundary": "one"}),
        ("success_threshold=nan", BetaFamily, {"success_threshold": math.nan}),
        ("ddof=2", GroupStandardized, {"ddof": 2}),
        ("ddof=True", GroupStandardized, {"ddof": True}),
        ("eps=-1e-06", GroupStandardized, {"eps": -1e-6}),
    ],
)
def test_bad_parameters_name_the_key_in_one_line(
    key: str, estimator: Any, arguments: dict[str, Any]
) -> None:
    if estimator is BetaFamily:
        arguments = BOTH_ZERO | arguments
    with pytest.raises(ConfigError) as caught:
        estimator(**arguments)
    message = str(caught.value)
    assert message.startswith(f"{key}: must be ") and "\n" not in message


@pytest.mark.parametrize("beta", [50, 1e6])
def test_an_overflowing_exponent_is_refused_not_infinite(beta: float) -> None:
    with pytest.raises(ConfigError, match=r"^beta_pos=.* overflows"):
        BetaFamily(beta, 0)(binary(1, dtype=torch.float32))
