"""Entropy dynamics and the ledger, by hand and on a softmax bandit where the theory is exact."""

import pytest
import torch
from torch import Tensor

from asym_lightning.algorithms import BetaFamily
from asym_lightning.learner.batch import MiniBatch, StepRecord
from asym_lightning.metrics.dynamics import accuracy_bin, measure_entropy, upper_quantile
from asym_lightning.metrics.ledger import Entry, entry, ledger_sums
from asym_lightning.runtime.meter import Meter
from tests.support.metrics import compute
from tests.support.records import record


def step(
    correct: list[list[int]],
    rows: list[int],
    entropy: list[float],
    weights: list[float] | None = None,
) -> StepRecord:
    """The record of a step on tokens of the given rollouts and entropies."""
    mask = torch.tensor(correct, dtype=torch.bool)
    lengths = torch.ones(mask.numel(), dtype=torch.long)
    batch = MiniBatch(mask.float(), mask, lengths, micro_batches=())
    given = None if weights is None else torch.tensor(weights)
    return record(batch, torch.tensor(rows), given, entropy=torch.tensor(entropy))


def test_entropy_by_outcome_and_by_accuracy() -> None:
    # Group 0: p = 1/4, rollout 0 is correct. Group 1: p = 1.
    # Rollout 3 is left out of the loss.
    correct = [[1, 0, 0, 0], [1, 1, 1, 1]]
    rows = [0, 0, 1, 4, 2, 5, 6, 7, 7]
    entropy = [1.0, 2, 3, 5, 4, 0, 0, 1, 1]
    meter = Meter()
    measure_entropy(step(correct, rows, entropy), meter)
    got = compute(meter)
    want = {
        "entropy/policy": 17 / 9,
        "entropy/positive": 10 / 7,
        "entropy/negative": 3.5,
        "entropy/p_0.25": 2.5,
        "entropy/p_0.75": 7 / 5,
    }
    assert got == pytest.approx(want)


def test_rollouts_that_stand_for_others_count_for_them() -> None:
    meter = Meter()
    seen = step([[1, 0], [1, 1]], [0, 1, 2], [1.0, 2, 3], weights=[1.0, 1.0, 4.0, 0.0])
    measure_entropy(seen, meter)
    want = {
        "entropy/policy": 15 / 6,
        "entropy/positive": 13 / 5,
        "entropy/negative": 2,
        "entropy/p_0.50": 1.5,
        "entropy/p_0.75": 3,
    }
    assert compute(meter) == pytest.approx(want)


def test_bins_hold_their_lower_edge_and_the_last_one_all_right() -> None:
    accuracies = torch.tensor([0, 1 / 8, 1 / 4, 3 / 8, 1 / 2, 3 / 4, 7 / 8, 1])
    assert accuracy_bin(accuracies).tolist() == [0, 0, 1, 1, 2, 3, 3, 3]


def test_at_most_the_share_lies_above_the_quantile() -> None:
    values = torch.tensor([5.0, 1, 4, 2, 3, 10, 9, 8, 7, 6])
    assert upper_quantile(values, torch.ones(10), 0.2) == 8
    assert upper_quantile(values, torch.ones(10), 0.25) == 8
    weighted, weights = torch.tensor([1.0, 2.0, 3.0]), torch.tensor([1.0, 1.0, 4.0])
    assert upper_quantile(weighted, weights, 0.2) == 3, "3 has the weight of four values"
    assert upper_quantile(torch.tensor([2.0]), torch.ones(1), 0.2) == 2
    assert upper_quantile(torch.full((7,), 3.0), torch.ones(7), 0.2) == 3


def test_an_entry_by_hand() -> None:
    # Two tokens of correct rollouts, one of a wrong rollout; A = 2, 2, -4, baseline 0.
    logp, entropy = torch.tensor([-1.0, -2.0, -3.0]), torch.tensor([1.5, 1.0, 0.5])
    new_logp = logp + torch.tensor([0.2, 0.4, -0.6])
    new_entropy = entropy + torch.tensor([0.3, -0.1, 0.4])
    before, after = (logp, entropy), (new_logp, new_entropy)
    advantages, positive = torch.tensor([2.0, 2.0, -4.0]), torch.tensor([True, True, False])
    no_baseline = torch.zeros(3)
    sums = ledger_sums(before, after, advantages, baseline=no_baseline, positive=positive)
    eta = (0.2 * 2 + 0.4 * 2 + 0.6 * 4) / (4 + 4 + 16)
    got = entry(sums)
    # (logp + H) A: (.5)(2) + (-1)(2) on the correct rollouts, (-2.5)(-4) on the wrong one.
    assert [got.measured_positive, got.measured_negative] == pytest.approx([0.2 / 3, 0.4 / 3])
    predicted = [got.predicted_positive, got.predicted_negative]
    assert predicted == pytest.approx([eta * 1 / 3, -eta * 10 / 3])
    assert got.step_size == pytest.approx(eta) and got.measured == pytest.approx(0.2)
    baseline = torch.tensor([0.5, 0.5, -1])
    shifted = entry(ledger_sums(before, after, advantages, baseline=baseline, positive=positive))
    assert shifted.step_size == pytest.approx((0.2 * 1.5 + 0.4 * 1.5 + 0.6 * 3) / (1.5**2 * 2 + 9))

    def part(tokens: slice) -> Tensor:
        return ledger_sums(
            (logp[tokens], entropy[tokens]),
            (new_logp[tokens], new_entropy[tokens]),
            advantages[tokens],
            baseline=no_baseline[tokens],
            positive=positive[tokens],
        )

    torch.testing.assert_close(part(slice(0, 1)) + part(slice(1, 3)), sums)


def test_no_tokens_or_no_contrast_predict_nothing() -> None:
    void = torch.zeros(0)
    sums = ledger_sums((void, void), (void, void), void, baseline=void, positive=void.bool())
    assert entry(sums) == Entry(0, 0, 0, predicted_negative=0, step_size=0)
    ones, yes = torch.ones(2), torch.ones(2).bool()
    sums = ledger_sums((-ones, ones), (-ones, ones + 0.5), ones, baseline=ones, positive=yes)
    alike = entry(sums)
    assert alike.step_size == alike.predicted == 0 and alike.measured == 0.5
    # A group of equal rewards with advantages other than 0: the contrast is rounding alone.
    same = torch.full((56,), 7**0.5 * 0.9)
    rounded = torch.zeros(1).index_add(0, torch.zeros(56).long(), same).div(56).expand(56)
    assert (same != rounded).any()
    yes = torch.ones(56).bool()
    before, after = (-same, same), (1 - same, same)
    flat = entry(ledger_sums(before, after, same, baseline=rounded, positive=yes))
    assert flat.step_size == flat.predicted == 0


def distribution(logits: Tensor) -> tuple[Tensor, Tensor]:
    """Log-probabilities of all arms, and the entropy repeated for each."""
    logp = logits.log_softmax(-1)
    return logp, (-(logp.exp() * logp).sum(-1, keepdim=True)).expand_as(logp)


@pytest.mark.parametrize("betas", [(0.9, 0.4), (0.5, 0.5), (0.5, 0), (0, 0.5)])
def test_on_a_softmax_bandit_the_prediction_is_the_measured_change(
    betas: tuple[float, float],
) -> None:
    """Natural-gradient steps on 16 bandits of 30 arms, with every arm by its probability.

    The prediction is exact up to the second order.
    """
    torch.manual_seed(0)
    logits = 1.5 * torch.randn(16, 30, dtype=torch.float64)
    correct = torch.rand(16, 30) < 0.3
    logp, entropy = distribution(logits)
    p = (logp.exp() * correct).sum(-1, keepdim=True)
    advantages = torch.where(correct, ((1 - p) / p) ** betas[0], -((p / (1 - p)) ** betas[1]))
    expected = (logp.exp() * advantages).sum(-1, keepdim=True).expand_as(logp)
    flat = [x.flatten() for x in (logp, entropy, advantages, expected, correct, logp.exp())]
    for eta in (1e-4, 1e-3):
        new = [x.flatten() for x in distribution(logits + eta * (advantages - expected))]
        got = entry(ledger_sums((flat[0], flat[1]), (new[0], new[1]), *flat[2:]))
        assert got.step_size == pytest.approx(eta, rel=1e-3)
        assert got.predicted == pytest.approx(got.measured, rel=0.05)
        assert abs(got.measured) > 1e-3 * eta, "a change that small would agree with anything"


def test_sampled_groups_predict_what_the_whole_bandit_does() -> None:
    """Arms in groups of 8 with group accuracies and means, as in training: equal up to noise."""
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(1, 20, dtype=torch.float64, generator=generator)
    correct = torch.arange(20)[None] % 3 == 0
    logp, entropy = distribution(logits)
    drawn = torch.multinomial(logp[0].exp(), 8 * 20000, replacement=True, generator=generator)
    arms = drawn.view(-1, 8)
    outcome = correct[0][arms]
    sampled = BetaFamily(0.9, 0.4)(outcome.double())
    # The step of these advantages: each arm moves by eta times its mean sampled advantage.
    zeros, ones = torch.zeros(20).double(), torch.ones(arms.numel()).double()
    counts = zeros.index_add(0, arms.flatten(), ones)
    mean = zeros.index_add(0, arms.flatten(), sampled.flatten()) / counts
    new_logp, new_entropy = distribution(logits + 1e-2 * mean)

    def pick(x: Tensor) -> Tensor:
        return x[0][arms].flatten()

    baseline = sampled.mean(1, keepdim=True).expand_as(sampled).flatten()
    before, after = (pick(logp), pick(entropy)), (pick(new_logp), pick(new_entropy))
    positive = outcome.flatten()
    sums = ledger_sums(before, after, sampled.flatten(), baseline=baseline, positive=positive)
    got = entry(sums)
    assert got.measured == pytest.approx(float((new_entropy - entropy)[0, 0]))
    assert got.predicted == pytest.approx(got.measured, rel=0.25)
    assert got.predicted_positive * got.predicted_negative != 0
