"""The clipped loss by hand and against the printed formula, and the aggregations."""

import math

import pytest
import torch

from asym_lightning.algorithms import (
    LossInputs,
    PPOClip,
    SequenceMeanTokenMean,
    SequenceSumOverConstant,
    TokenMean,
)
from asym_lightning.types import ConfigError


def inputs(ratios: list[float], advantages: list[float]) -> LossInputs:
    """Tokens with these ratios: old_logp is -1.5 everywhere."""
    old = torch.full((len(ratios),), -1.5, dtype=torch.float64)
    logp = (old + torch.tensor(ratios, dtype=torch.float64).log()).requires_grad_()
    factors = torch.tensor(advantages, dtype=torch.float64)
    return LossInputs(logp, old, factors, rows=torch.arange(len(advantages)))


# Ratio, advantage, loss, gradient on logp (-A rho or 0), active bound; clip .2 / .28, dual clip 3.
CASES = [
    (1.5, 2.0, -2.56, 0.0, "clip/high"),  # -2 * 1.28
    (1.25, 2.0, -2.5, -2.5, None),  # within clip-higher
    # A positive rollout below the range still pulls up.
    (0.5, 2.0, -1.0, -1.0, None),
    (0.5, -2.0, 1.6, 0.0, "clip/low"),  # 2 * 0.8
    (0.9, -2.0, 1.8, 1.8, None),
    # A negative rollout above the range still pushes down.
    (1.5, -2.0, 3.0, 3.0, None),
    (5.0, -2.0, 6.0, 0.0, "clip/dual"),  # 2 * 3
    (5.0, 0.0, 0.0, 0.0, None),
]


@pytest.mark.parametrize(("ratio", "advantage", "loss", "gradient", "active"), CASES)
def test_ppo_clip_by_hand(
    ratio: float, advantage: float, loss: float, gradient: float, active: str | None
) -> None:
    given = inputs([ratio], [advantage])
    output = PPOClip(clip_low=0.2, clip_high=0.28, dual_clip=3.0)(given)
    assert output.per_token.item() == pytest.approx(loss)
    found = torch.autograd.grad(output.per_token.sum(), given.logp)[0].item()
    assert found == pytest.approx(gradient)
    bounds = [name for name, mask in output.diagnostics.items() if mask.item()]
    assert bounds == ([active] if active else [])
    assert set(output.diagnostics) == {"clip/low", "clip/high", "clip/dual"}


def test_without_dual_clip_a_negative_is_unbounded() -> None:
    output = PPOClip(dual_clip=None)(inputs([5.0], [-2.0]))
    assert output.per_token.item() == pytest.approx(10.0)
    assert output.diagnostics["clip/dual"].item() == 0


def test_defaults_are_verls() -> None:
    assert PPOClip() == PPOClip(clip_low=0.2, clip_high=0.2, dual_clip=3.0)


def test_value_and_gradient_equal_the_printed_formula() -> None:
    """max(-A rho, -A clip(rho)), and for A < 0 its min with -A c, in torch's own operations.

    Random values lie away from the kinks.
    """
    generator = torch.Generator().manual_seed(0)
    logp = -2 * torch.rand(4000, generator=generator, dtype=torch.float64)
    old = -2 * torch.rand(4000, generator=generator, dtype=torch.float64)
    advantages = torch.randn(4000, generator=generator, dtype=torch.float64)
    ours, theirs = logp.clone().requires_grad_(), logp.clone().requires_grad_()
    rho = (theirs - old).exp()
    clipped = torch.maximum(-advantages * rho, -advantages * rho.clamp(0.8, 1.28))
    printed = torch.where(advantages < 0, torch.minimum(clipped, -advantages * 3.0), clipped)
    output = PPOClip(clip_high=0.28)(
        LossInputs(ours, old, advantages, rows=torch.arange(len(ours)))
    )
    torch.testing.assert_close(output.per_token, printed, rtol=1e-12, atol=1e-12)
    gradient = torch.autograd.grad(output.per_token.sum(), ours)[0]
    expected = torch.autograd.grad(printed.sum(), theirs)[0]
    torch.testing.assert_close(gradient, expected, rtol=1e-12, atol=1e-12)
    # Every branch is visited.
    assert all(0.01 < mask.mean() < 0.5 for mask in output.diagnostics.values())


@pytest.mark.parametrize(
    "loss", [PPOClip(), PPOClip(clip_low=0, clip_high=0), PPOClip(dual_clip=None)]
)
def test_on_policy_gradient_is_reinforce(loss: PPOClip) -> None:
    generator = torch.Generator().manual_seed(1)
    logits = torch.randn(6, 5, generator=generator, dtype=torch.float64, requires_grad=True)
    chosen = torch.tensor([0, 1, 2, 3, 4, 0])
    advantages = torch.tensor([5.76, -0.46, 0.0, 1.0, -2.2, -1.0], dtype=torch.float64)
    logp = logits.log_softmax(-1)[torch.arange(6), chosen]
    reinforce = torch.autograd.grad(-(advantages * logp).sum(), logits, retain_graph=True)[0]
    output = loss(LossInputs(logp, logp.detach(), advantages, rows=torch.arange(len(logp))))
    gradient = torch.autograd.grad(output.per_token.sum(), logits, retain_graph=True)[0]
    torch.testing.assert_close(gradient, reinforce)
    # A forgotten detach must not cancel the gradient.
    undetached = loss(LossInputs(logp, logp, advantages, rows=torch.arange(len(logp))))
    gradient = torch.autograd.grad(undetached.per_token.sum(), logits)[0]
    torch.testing.assert_close(gradient, reinforce)


def test_extreme_ratios_stay_finite() -> None:
    old = torch.tensor([-500.0, -500.0, -500.0, -0.1])
    logp = torch.tensor([-0.1, -0.1, -0.1, -500.0], requires_grad=True)
    output = PPOClip()(
        LossInputs(logp, old, torch.tensor([1.0, -1.0, 0.0, 1.0]), rows=torch.arange(4))
    )
    output.per_token.sum().backward()
    assert output.per_token.tolist()[:3] == pytest.approx([-1.2, 3.0, 0.0])
    assert logp.grad is not None and logp.grad.tolist() == pytest.approx([0, 0, 0, 0])


def test_bad_inputs() -> None:
    with pytest.raises(ValueError, match=r"must have the same shape \[n\]"):
        LossInputs(torch.zeros(3), torch.zeros(3, 1), torch.zeros(3), rows=torch.zeros(3))
    with pytest.raises(ValueError, match=r"must have the same shape \[n\]"):
        LossInputs(torch.zeros(3), torch.zeros(3), torch.zeros(1), rows=torch.zeros(3))


@pytest.mark.parametrize(
    ("key", "arguments"),
    [
        ("clip_low=-0.1", {"clip_low": -0.1}),
        ("clip_low=1.5", {"clip_low": 1.5}),
        ("clip_high=-1", {"clip_high": -1}),
        ("dual_clip=1.0", {"dual_clip": 1.0}),
        ("dual_clip=nan", {"dual_clip": math.nan}),
    ],
)
def test_bad_parameters_name_the_key(key: str, arguments: dict[str, float]) -> None:
    with pytest.raises(ConfigError) as caught:
        PPOClip(**arguments)
    assert str(caught.value).startswith(f"{key}: must be ") and "\n" not in str(caught.value)


LENGTHS = [4, 1, 3, 2]  # four rollouts, ten tokens
PER_ROLLOUT = [[1.0, 2.0, 3.0, 4.0], [10.0], [-1.0, -2.0, -3.0], [0.5, 1.5]]


@pytest.mark.parametrize(
    ("aggregation", "by_hand"),
    [
        (TokenMean(), 16.0 / 10),  # sums 10, 10, -6, 2
        (SequenceMeanTokenMean(), (2.5 + 10 - 2 + 1) / 4),
        (SequenceSumOverConstant(max_tokens=8), 16.0 / (8 * 4)),
    ],
)
@pytest.mark.parametrize("cut", [[4], [2, 2], [1, 1, 1, 1], [3, 0, 1]])
def test_aggregations_by_hand_and_however_rollouts_are_cut(
    aggregation: TokenMean, by_hand: float, cut: list[int]
) -> None:
    total, start = 0.0, 0
    # Each part is a rank or a micro-batch with its own rollouts and the global counts.
    for rollouts in cut:
        own = range(start, start + rollouts)
        per_token = torch.tensor([value for i in own for value in PER_ROLLOUT[i]])
        lengths = torch.tensor([LENGTHS[i] for i in own for _ in PER_ROLLOUT[i]], dtype=torch.long)
        weights = aggregation.weights(lengths, token_count=10, rollout_count=4)
        assert weights.shape == per_token.shape and weights.dtype == torch.float32
        total += (per_token * weights).sum().item()
        start += rollouts
    assert total == pytest.approx(by_hand)


@pytest.mark.parametrize(
    "aggregation", [TokenMean(), SequenceMeanTokenMean(), SequenceSumOverConstant(8)]
)
def test_counts_must_be_global_counts(aggregation: TokenMean) -> None:
    with pytest.raises(ValueError, match="global count"):
        aggregation.weights(torch.tensor([2, 2]), token_count=0, rollout_count=0)
    no_tokens = torch.zeros(0, dtype=torch.long)
    assert aggregation.weights(no_tokens, token_count=0, rollout_count=0).shape == (0,)


@pytest.mark.parametrize("value", [0, -1, 2.5, "many", True])
def test_the_constant_must_be_a_count(value: int) -> None:
    message = f"max_tokens={value}: must be a whole number >= 1"
    with pytest.raises(ConfigError, match=message):
        SequenceSumOverConstant(value)
