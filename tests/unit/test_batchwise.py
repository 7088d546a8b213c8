"""Advantages of a mini-batch, steered advantages and the common scale, against numbers by hand."""

import math
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from asym_lightning.algorithms import BetaFamily, GroupStandardized, MeanCentered
from asym_lightning.algorithms.adaptive import AdaptiveBetaFamily
from asym_lightning.algorithms.batchwise import AGRAE, FADE, Whitened
from asym_lightning.algorithms.modulation import AdaptiveEntropyBonus
from asym_lightning.algorithms.steering import Observation
from asym_lightning.types import FieldError
from tests.support.parts import algorithm, tokens

TWO = torch.tensor([[1, 0, 0, 0], [1, 1, 1, 0]], dtype=torch.float64)  # p = 1/4 and 3/4, mean 1/2


def rows(*values: list[float]) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


def seen(entropy: float, positive: float = math.nan, negative: float = math.nan) -> Observation:
    return Observation(entropy, positive, negative)


def test_whitening_counts_tokens() -> None:
    # Eight tokens, six of them of correct rollouts:
    # mean 6/8, variance (6 .25^2 + 2 .75^2) / 7 = 1.5 / 7.
    got = Whitened()(rows([1, 0], [1, 1]), lengths=torch.tensor([[1, 2], [3, 2]]))
    std = math.sqrt(1.5 / 7)
    torch.testing.assert_close(got, rows([0.25, -0.75], [0.25, 0.25]) / std)
    # Without lengths every rollout has the same weight.
    # Rewards minus group means, (.5, -.5, 0, 0), have the variance .5 / 3.
    std = math.sqrt(0.5 / 3)
    with_baseline = Whitened(baseline=True)(rows([1, 0], [1, 1]))
    torch.testing.assert_close(with_baseline, rows([0.5, -0.5], [0, 0]) / std)
    graded = Whitened()(rows([0.5, 0], [1, 0.5]))
    torch.testing.assert_close(graded, rows([0, -0.5], [0.5, 0]) / std)
    for constant in (0.0, 1.0):
        assert not Whitened()(torch.full((3, 2), constant)).any()
    assert Whitened()(torch.tensor([[1.0], [0.0]])).shape == (2, 1)
    with pytest.raises(ValueError, match="group_size=1"):
        Whitened(baseline=True)(torch.tensor([[1.0], [0.0]]))


@given(
    st.lists(st.lists(st.integers(0, 1), min_size=16, max_size=16), min_size=1, max_size=4),
    st.floats(-3, 3),
    st.booleans(),
)
def test_whitened_advantages_do_not_see_a_constant_and_sum_to_zero(
    bits: list[list[int]], shift: float, baseline: bool
) -> None:
    rewards, lengths = torch.tensor(bits, dtype=torch.float64), torch.randint(1, 9, (len(bits), 16))
    got = Whitened(baseline)(rewards, lengths=lengths)
    zero = torch.tensor(0.0, dtype=torch.float64)
    torch.testing.assert_close((got * lengths).sum(), zero, rtol=0, atol=1e-6)
    if len(set(rewards.flatten().tolist())) > 1:
        shifted = Whitened(baseline)(rewards + shift, lengths=lengths)
        torch.testing.assert_close(shifted, got, rtol=1e-5, atol=1e-6)


def test_a_grae_by_hand() -> None:
    # w = 1/2, bracket at p = 1/4 and 3/4: .25/.5 + .25/.8660 = .788675;
    # GRPO 1.7321/-.57735 and .57735/-1.7321; positives times w.
    want = rows([0.683013] + [-0.455342] * 3, [0.227671] * 3 + [-1.366025])
    torch.testing.assert_close(AGRAE()(TWO), want, rtol=1e-5, atol=1e-6)
    doubled = torch.where(TWO > 0, 2 * want, want)
    torch.testing.assert_close(AGRAE(alpha=0.25)(TWO), doubled, rtol=1e-5, atol=1e-6)
    # p = 1/2, G = 2 and 16: bracket (w + 1 - w) / (2 sqrt(1/2)) = .707107, w = 1/2
    for size in (2, 16):
        half = torch.tensor([[1.0, 0.0] * (size // 2)], dtype=torch.float64)
        want = torch.where(half > 0, 0.353553, -0.707107).double()
        torch.testing.assert_close(AGRAE()(half), want, rtol=1e-5, atol=1e-6)
    assert not AGRAE()(rows([1, 1], [0, 0])).any()
    torch.testing.assert_close(AGRAE()(TWO.float()).double(), AGRAE()(TWO), rtol=1e-5, atol=1e-6)


def test_fade_by_hand() -> None:
    fade = FADE()
    # Accuracy 1/2: a = 1.5; p = 1/4: .75^1.5, -.75^.5 .25; p = 3/4: .25^1.5, -.25^.5 .75
    want = rows([0.649519] + [-0.216506] * 3, [0.125] * 3 + [-0.375])
    torch.testing.assert_close(fade(TWO), want, rtol=1e-5, atol=1e-6)
    fade.observe(seen(1.0))
    assert fade.metrics() == {"steer/fade_delta": 1.0}
    fade.observe(seen(0.2))  # delta = 1 + .2 - .5
    torch.testing.assert_close(
        fade(TWO), torch.where(TWO > 0, want, want / 0.7), rtol=1e-5, atol=1e-6
    )
    other = FADE()
    other.load_state_dict(fade.state_dict())
    assert torch.equal(other(TWO), fade(TWO))
    # Accuracy 1/16: a at its limit 3, A_pos = (15/16)^3, A_neg = -(15/16)^2 / 16
    hard = torch.zeros(1, 16, dtype=torch.float64)
    hard[0, 0] = 1
    want_hard = torch.tensor([0.823975, -0.054932], dtype=torch.float64)
    torch.testing.assert_close(FADE()(hard)[0, :2], want_hard, rtol=1e-4, atol=1e-6)
    # G = 2 at p = 1/2: a = 1.5, .5^1.5 and -.5^.5 .5
    torch.testing.assert_close(
        FADE()(rows([1, 0])), rows([0.353553, -0.353553]), rtol=1e-5, atol=1e-6
    )
    assert not FADE()(rows([1, 1], [0, 0])).any() and not FADE()(rows([0, 0])).any()


@pytest.mark.parametrize("make", [AGRAE, FADE])
def test_graded_rewards_are_refused(make: type) -> None:
    with pytest.raises(ValueError, match="neither 0 nor 1"):
        make()(rows([0.5, 0]))


@given(st.lists(st.integers(0, 1), min_size=2, max_size=16), st.integers(0, 99))
def test_permuting_a_group_permutes_its_advantages(bits: list[int], seed: int) -> None:
    rewards = torch.tensor([bits], dtype=torch.float64)
    order = torch.randperm(len(bits), generator=torch.Generator().manual_seed(seed))
    estimators: list[Any] = [AGRAE(), FADE(), Whitened(), Whitened(baseline=True)]
    for advantage in (*estimators, AdaptiveBetaFamily()):
        torch.testing.assert_close(advantage(rewards)[:, order], advantage(rewards[:, order]))


def controlled() -> AdaptiveBetaFamily:
    return AdaptiveBetaFamily(
        0.5, 0.5, target_pos=0.6, target_neg=0.4, rate=0.02, gain=2.0, smoothing=0.5
    )


def test_exponents_follow_the_entropy_of_their_side() -> None:
    advantage = controlled()
    assert torch.equal(advantage(TWO), BetaFamily(0.5, 0.5)(TWO))
    # Both sides at their start, h = 1: .5 + .02 (.6 - 1), .5 - .02 (.4 - 1)
    advantage.observe(seen(1.0, 2.0, 1.0))
    exponents = {"steer/beta_pos": 0.492, "steer/beta_neg": 0.512}
    shares = {"steer/entropy_share_pos": 1.0, "steer/entropy_share_neg": 1.0}
    assert advantage.metrics() == pytest.approx({**exponents, **shares})
    # h+ = (1 + 1/2) / 2 = .75, h- = (1 + 1/5) / 2 = .6:
    # + .02 (.6 - .75) + 2 (.25) and - .02 (.4 - .6) - 2 (.4).
    advantage.observe(seen(1.0, 1.0, 0.2))
    exponents = {"steer/beta_pos": 0.989, "steer/beta_neg": 0.0}
    shares = {"steer/entropy_share_pos": 0.75, "steer/entropy_share_neg": 0.6}
    assert advantage.metrics() == pytest.approx({**exponents, **shares})
    before = advantage.metrics()
    advantage.observe(seen(1.0))  # no rollouts of either sign
    assert advantage.metrics() == before
    torch.testing.assert_close(
        advantage(TWO), BetaFamily(advantage.beta_pos, advantage.beta_neg)(TWO)
    )
    resumed = controlled()
    resumed.load_state_dict(advantage.state_dict())
    for part in (advantage, resumed):
        part.observe(seen(1.0, 0.3, 0.9))
    assert advantage.metrics() == resumed.metrics() != before


def test_exponents_stay_within_their_limits_and_do_not_wind_up() -> None:
    advantage = AdaptiveBetaFamily(rate=1.0, gain=0.0, smoothing=0.0)  # targets .4 and .6
    advantage.observe(seen(1, 1, 1))
    for _ in range(50):
        advantage.observe(seen(1, 0.0, 1.0))
    assert (advantage.beta_pos, advantage.beta_neg) == (1.2, 0.75)
    advantage.observe(seen(1, 1.0, 0.3))
    assert (advantage.beta_pos, advantage.beta_neg) == pytest.approx((0.6, 0.45))


def test_the_controller_holds_a_process_at_its_target() -> None:
    """Entropies that fall by 2% a step come to rest at the targets.

    They fall less with a larger beta_pos and more with a larger beta_neg.
    """
    advantage = AdaptiveBetaFamily()
    positive = negative = 1.0
    for _ in range(2000):
        advantage.observe(seen(1.0, positive, negative))
        positive *= 1 - 0.02 * (1 - advantage.beta_pos)
        negative *= 1 - 0.02 * (advantage.beta_neg - 0.3)
    assert positive == pytest.approx(0.4, rel=0.02) and negative == pytest.approx(0.6, rel=0.02)


def test_adaptive_bonus_rises_below_its_target_only() -> None:
    bonus = AdaptiveEntropyBonus(target=0.2, rate=1e-3, largest=2e-3)
    token = tokens(entropy=torch.ones(1))
    assert float(bonus.loss_term(token)) == 0
    for entropy, coef, term in (
        (0.1, 1e-3, -1e-3),
        (0.1, 2e-3, -2e-3),
        (0.1, 2e-3, -2e-3),
        (0.3, 1e-3, 0.0),
        (0.3, 0.0, 0.0),
    ):
        bonus.observe(seen(entropy))
        assert bonus.metrics()["steer/entropy_coef"] == pytest.approx(coef)
        assert float(bonus.loss_term(token)) == pytest.approx(term)
    bonus.observe(seen(0.1))
    resumed = AdaptiveEntropyBonus(target=0.2, rate=1e-3, largest=2e-3)
    resumed.load_state_dict(bonus.state_dict())
    assert float(resumed.loss_term(token)) == float(bonus.loss_term(token)) == pytest.approx(-1e-3)


@pytest.mark.parametrize("advantage", [BetaFamily(0.9, 0.4), MeanCentered(), Whitened(), AGRAE()])
def test_equal_scale_is_the_mean_magnitude_of_grpo(advantage: object) -> None:
    lengths = torch.ones(2, 4, dtype=torch.long)
    plain = algorithm(advantage=advantage).advantages(TWO, lengths)
    scaled = algorithm(advantage=advantage, equal_scale=True).advantages(TWO, lengths)
    torch.testing.assert_close(scaled.abs().mean(), GroupStandardized()(TWO).abs().mean())
    torch.testing.assert_close(scaled / scaled[0, 0], plain / plain[0, 0])
    estimator = algorithm(advantage=advantage, equal_scale=True)
    unsolved = estimator.advantages(torch.zeros(1, 4), lengths[:1])
    assert unsolved.isfinite().all()


def test_bad_parameters() -> None:
    for make in (
        lambda: Whitened(eps=-1),
        lambda: AGRAE(alpha=0),
        lambda: AdaptiveBetaFamily(rate=-1),
        lambda: AdaptiveBetaFamily(gain=-1),
        lambda: AdaptiveBetaFamily(smoothing=1.0),
        lambda: AdaptiveBetaFamily(beta_pos=1.3),
        lambda: AdaptiveBetaFamily(beta_neg=0.8),
        lambda: AdaptiveBetaFamily(degenerate_groups="no"),  # type: ignore[arg-type]
        lambda: AdaptiveEntropyBonus(target=-1),
        lambda: AdaptiveEntropyBonus(start=1.0),
    ):
        with pytest.raises(FieldError, match=r"^\w+="):
            make()
