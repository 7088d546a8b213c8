"""Other advantages than the beta family, by hand, and the properties that their papers claim."""

from collections.abc import Callable
from itertools import combinations
from math import sqrt

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from asym_lightning.algorithms import BetaFamily, MeanCentered
from asym_lightning.algorithms.baselines import LeaveOneOut, QuantileBaseline
from asym_lightning.algorithms.pass_rate import FocalGRPO, MaxRL, PassAtK, SignedConstant
from asym_lightning.types import FieldError

ALL: dict[str, Callable[[Tensor], Tensor]] = {
    "rloo": LeaveOneOut(),
    "qae": QuantileBaseline(0.4),
    "psr": SignedConstant(1, 0),
    "nsr": SignedConstant(0, 1),
    "w_reinforce": SignedConstant(0.1, 1),
    "maxrl": MaxRL(),
    "f_grpo": FocalGRPO(0.5),
    "pass_at_k": PassAtK(2),
}
BINARY_ONLY = ["psr", "nsr", "w_reinforce", "maxrl", "f_grpo", "pass_at_k"]
CENTERED = ["rloo", "f_grpo", "maxrl", "pass_at_k"]  # the group sums to 0


def group(correct: int, size: int = 8, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.tensor([[1.0] * correct + [0.0] * (size - correct)], dtype=dtype)


def focal(p: float) -> tuple[float, float]:
    """sqrt(1-p) times (1-p)/s and -p/s with s = sqrt(p(1-p) * 8/7)."""
    scale = sqrt(1 - p) / sqrt(p * (1 - p) * 8 / 7)
    return (1 - p) * scale, -p * scale


# (A_pos, A_neg) at p = 1/8, 3/8, 5/8, 7/8 of G = 8.
HAND = {
    "rloo": [(7 / 8 * 8 / 7, -1 / 7), (5 / 7, -3 / 7), (3 / 7, -5 / 7), (1 / 7, -1.0)],
    # p = .625 > 1 - .4
    "qae": [(8 / sqrt(7), 0.0), (8 / sqrt(15), 0.0), (0.0, -8 / sqrt(15)), (0.0, -8 / sqrt(7))],
    "psr": [(1, 0)] * 4,
    "nsr": [(0, -1)] * 4,
    "w_reinforce": [(0.1, -1)] * 4,
    "maxrl": [(7.0, -1.0), (5 / 3, -1.0), (3 / 5, -1.0), (1 / 7, -1.0)],
    "f_grpo": [focal(p) for p in (1 / 8, 3 / 8, 5 / 8, 7 / 8)],
    # k = 2: R = 1 - C(M,2)/28 = 1/4, 9/14, 25/28, 1
    "pass_at_k": [
        (sqrt(3), (3 / 4 - 6 / 7) / sqrt(3 / 16)),
        ((5 / 14) / sqrt(45 / 196), (5 / 14 - 4 / 7) / sqrt(45 / 196)),
        ((3 / 28) / sqrt(75 / 784), (3 / 28 - 2 / 7) / sqrt(75 / 784)),
        (0.0, 0.0),
    ],
}


@pytest.mark.parametrize("name", ALL)
def test_by_hand(name: str) -> None:
    for correct, (positive, negative) in zip((1, 3, 5, 7), HAND[name], strict=True):
        values = [positive] * correct + [negative] * (8 - correct)
        want = torch.tensor([values], dtype=torch.float64)
        torch.testing.assert_close(ALL[name](group(correct)), want, rtol=1e-5, atol=1e-6)
        single = ALL[name](group(correct, dtype=torch.float32))
        assert single.dtype == torch.float32
        torch.testing.assert_close(single.double(), want, rtol=1e-4, atol=1e-5)


# G = 2 at p = 1/2 (pass_at_k with k = 1, where it is GRPO), and G = 16 at p = 1/4
SMALL_AND_LARGE = {
    "rloo": ((1, -1), (0.8, -4 / 15)),
    "qae": ((2, 0), (4 / sqrt(3), 0)),
    "psr": ((1, 0), (1, 0)),
    "nsr": ((0, -1), (0, -1)),
    "w_reinforce": ((0.1, -1), (0.1, -1)),
    "maxrl": ((1, -1), (3, -1)),
    # Sample variances 1/2 and 1/5.
    "f_grpo": ((0.5, -0.5), (sqrt(0.75) * 0.75 / sqrt(0.2), -sqrt(0.75) * 0.25 / sqrt(0.2))),
    # C(12,2)/C(16,2) = 66/120
    "pass_at_k": ((1, -1), (0.55 / sqrt(0.45 * 0.55), (0.55 - 11 / 15) / sqrt(0.45 * 0.55))),
}


@pytest.mark.parametrize("name", ALL)
def test_groups_of_two_and_of_sixteen_by_hand(name: str) -> None:
    cases = zip((1, 4), (2, 16), SMALL_AND_LARGE[name], strict=True)
    for correct, size, (positive, negative) in cases:
        advantage = PassAtK(1) if name == "pass_at_k" and size == 2 else ALL[name]
        values = [positive] * correct + [negative] * (size - correct)
        want = torch.tensor([values], dtype=torch.float64)
        torch.testing.assert_close(advantage(group(correct, size)), want, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", ALL)
def test_groups_without_a_contrast(name: str) -> None:
    constant = {"psr": (1.0, 0.0), "nsr": (0.0, -1.0), "w_reinforce": (0.1, -1.0)}
    all_right, none_right = constant.get(name, (0.0, 0.0))
    for size in (3, 16):
        for correct, value in ((size, all_right), (0, none_right)):
            want = torch.full((1, size), value, dtype=torch.float64)
            torch.testing.assert_close(ALL[name](group(correct, size)), want)


@pytest.mark.parametrize("name", ALL)
@given(bits=st.lists(st.integers(0, 1), min_size=3, max_size=16), seed=st.integers(0, 99))
def test_permuting_a_group_permutes_its_advantages(name: str, bits: list[int], seed: int) -> None:
    rewards = torch.tensor([bits], dtype=torch.float64)
    order = torch.randperm(len(bits), generator=torch.Generator().manual_seed(seed))
    advantages = ALL[name](rewards)
    permuted = ALL[name](rewards[:, order])
    torch.testing.assert_close(permuted, advantages[:, order], rtol=1e-12, atol=1e-12)
    if name in CENTERED:
        assert abs(float(advantages.sum())) < 1e-9
    assert bool((advantages[rewards == 1] >= 0).all())
    assert bool((advantages[rewards == 0] <= 0).all())


@given(rewards=st.lists(st.floats(-3, 3), min_size=2, max_size=16))
def test_leave_one_out_is_dr_grpo_scaled_and_ignores_a_constant(rewards: list[float]) -> None:
    r = torch.tensor([rewards], dtype=torch.float64)
    others = torch.stack([(r.sum() - x) / (r.numel() - 1) for x in r[0]])
    torch.testing.assert_close(LeaveOneOut()(r)[0], r[0] - others)
    torch.testing.assert_close(LeaveOneOut()(r), MeanCentered()(r) * r.numel() / (r.numel() - 1))
    torch.testing.assert_close(LeaveOneOut()(r + 5), LeaveOneOut()(r))


def test_maxrl_is_the_beta_family_where_something_was_solved() -> None:
    family = BetaFamily(1, 0, degenerate_groups="zero")
    for correct in range(1, 9):
        torch.testing.assert_close(MaxRL(eps=0)(group(correct)), family(group(correct)))


def test_pass_at_k_is_the_average_over_all_subsets() -> None:
    size, k, correct = 6, 3, 2
    subsets = list(combinations(range(size), k))
    reward = [float(any(i < correct for i in subset)) for subset in subsets]
    mean = sum(reward) / len(reward)
    std = sqrt(sum((r - mean) ** 2 for r in reward) / len(reward))
    want = []
    for i in range(size):
        own = [(r - mean) / std for r, s in zip(reward, subsets, strict=True) if i in s]
        want.append(sum(own) / len(own))
    advantages = PassAtK(k, eps=0)(group(correct, size))[0]
    torch.testing.assert_close(advantages, torch.tensor(want, dtype=torch.float64))


def test_the_quantile_is_right_continuous_on_graded_rewards() -> None:
    rewards = torch.tensor([[0.0, 1.0, 2.0, 3.0, 4.0]], dtype=torch.float64)
    # F(1) = 2/5
    torch.testing.assert_close(QuantileBaseline(0.4)(rewards), (rewards - 1.0) / sqrt(2))
    torch.testing.assert_close(QuantileBaseline(0.41)(rewards), (rewards - 2.0) / sqrt(2))


@pytest.mark.parametrize("name", BINARY_ONLY)
def test_graded_rewards_are_refused_where_they_mean_nothing(name: str) -> None:
    with pytest.raises(ValueError, match="neither 0 nor 1"):
        ALL[name](torch.tensor([[0.5, 1.0, 0.0]]))


@pytest.mark.parametrize(
    "make",
    [
        lambda: QuantileBaseline(0),
        lambda: QuantileBaseline(1.5),
        lambda: SignedConstant(0, 0),
        lambda: SignedConstant(-1, 1),
        lambda: MaxRL(-1),
        lambda: FocalGRPO(-0.5),
        lambda: PassAtK(0),
    ],
)
def test_bad_parameters(make: Callable[[], object]) -> None:
    with pytest.raises(FieldError, match=r"^\w+="):
        make()
    with pytest.raises(ValueError, match="k=4: must be below"):
        PassAtK(4)(group(1, 4))
