"""Entropy dynamics and the entropy ledger against numbers worked out by hand, and on a softmax bandit where theory is exact."""

import pytest
import torch
from torch import Tensor

from asym_lightning.algorithms import BetaFamily
from asym_lightning.learner.batch import MiniBatch
from asym_lightning.learner.packing import pack
from asym_lightning.metrics.dynamics import accuracy_bin, measure_entropy, upper_quantile
from asym_lightning.metrics.ledger import Entry, entry, ledger_sums
from asym_lightning.runtime.meter import Meter
from tests.support.metrics import compute


def mini_batch(right: list[list[int]], rows: list[list[int]], entropy: list[list[float]]) -> MiniBatch:
    """A mini-batch whose micro-batches hold tokens of the given rollouts and entropies."""
    micros = []
    for of, values in zip(rows, entropy, strict=True):
        micro = pack([])
        micro.rows, micro.entropy = torch.tensor(of, dtype=torch.long), torch.tensor(values)
        micros.append(micro)
    mask = torch.tensor(right, dtype=torch.bool)
    return MiniBatch(mask.float(), mask, torch.ones(mask.numel(), dtype=torch.long), micros)


def test_entropy_by_outcome_and_by_accuracy() -> None:
    # group 0: p = 1/4, right rollout 0; group 1: p = 1; rollout 3 was left out of the loss; the last micro-batch is empty
    batch = mini_batch([[1, 0, 0, 0], [1, 1, 1, 1]], [[0, 0, 1, 4], [2, 5, 6, 7, 7], []], [[1, 2, 3, 5], [4, 0, 0, 1, 1], []])
    meter = Meter()
    measure_entropy(batch, meter)
    got = compute(meter)
    assert got == pytest.approx(
        {"entropy/policy": 17 / 9, "entropy/positive": 10 / 7, "entropy/negative": 3.5, "entropy/p_0.25": 2.5, "entropy/p_0.75": 7 / 5}
    )


def test_rollouts_that_stand_for_others_count_for_them() -> None:
    batch = mini_batch([[1, 0], [1, 1]], [[0, 1], [2]], [[1, 2], [3]])
    batch.stand = torch.tensor([1.0, 1.0, 4.0, 0.0])
    meter = Meter()
    measure_entropy(batch, meter)
    want = {"entropy/policy": 15 / 6, "entropy/positive": 13 / 5, "entropy/negative": 2, "entropy/p_0.50": 1.5, "entropy/p_0.75": 3}
    assert compute(meter) == pytest.approx(want)


def test_bins_hold_their_lower_edge_and_the_last_one_all_right() -> None:
    assert accuracy_bin(torch.tensor([0, 1 / 8, 1 / 4, 3 / 8, 1 / 2, 3 / 4, 7 / 8, 1])).tolist() == [0, 0, 1, 1, 2, 3, 3, 3]


def test_at_most_the_share_lies_above_the_quantile() -> None:
    values = torch.tensor([5.0, 1, 4, 2, 3, 10, 9, 8, 7, 6])
    assert upper_quantile(values, torch.ones(10), 0.2) == 8 and upper_quantile(values, torch.ones(10), 0.25) == 8
    assert upper_quantile(torch.tensor([1.0, 2.0, 3.0]), torch.tensor([1.0, 1.0, 4.0]), 0.2) == 3, "3 stands for four"
    assert upper_quantile(torch.tensor([2.0]), torch.ones(1), 0.2) == 2
    assert upper_quantile(torch.full((7,), 3.0), torch.ones(7), 0.2) == 3


def test_an_entry_by_hand() -> None:
    # two tokens of right rollouts, one of a wrong one; A = 2, 2, -4, baseline 0
    logp, entropy = torch.tensor([-1.0, -2.0, -3.0]), torch.tensor([1.5, 1.0, 0.5])
    new_logp, new_entropy = logp + torch.tensor([0.2, 0.4, -0.6]), entropy + torch.tensor([0.3, -0.1, 0.4])
    advantages, positive = torch.tensor([2.0, 2.0, -4.0]), torch.tensor([True, True, False])
    sums = ledger_sums((logp, entropy), (new_logp, new_entropy), advantages, torch.zeros(3), positive)
    eta = (0.2 * 2 + 0.4 * 2 + 0.6 * 4) / (4 + 4 + 16)
    got = entry(sums)
    # (logp + H) A: (.5)(2) + (-1)(2) on right ones, (-2.5)(-4) on the wrong one
    assert [got.measured_positive, got.measured_negative] == pytest.approx([0.2 / 3, 0.4 / 3])
    assert [got.predicted_positive, got.predicted_negative] == pytest.approx([eta * 1 / 3, -eta * 10 / 3])
    assert got.step_size == pytest.approx(eta) and got.measured == pytest.approx(0.2)
    shifted = entry(ledger_sums((logp, entropy), (new_logp, new_entropy), advantages, torch.tensor([0.5, 0.5, -1]), positive))
    assert shifted.step_size == pytest.approx((0.2 * 1.5 + 0.4 * 1.5 + 0.6 * 3) / (1.5**2 * 2 + 9))
    parts = [ledger_sums(*(tuple(x[i] for x in pair) for pair in ((logp, entropy), (new_logp, new_entropy))), advantages[i],
                         torch.zeros(3)[i], positive[i]) for i in (slice(0, 1), slice(1, 3))]  # fmt: skip
    torch.testing.assert_close(parts[0] + parts[1], sums)


def test_no_tokens_or_no_contrast_predict_nothing() -> None:
    nothing = torch.zeros(0)
    assert entry(ledger_sums((nothing, nothing), (nothing, nothing), nothing, nothing, nothing.bool())) == Entry(0, 0, 0, 0, 0)
    one = torch.ones(2)
    alike = entry(ledger_sums((-one, one), (-one, one + 0.5), one, one, one.bool()))
    assert alike.step_size == alike.predicted == 0 and alike.measured == 0.5
    same = torch.full((56,), 7**0.5 * 0.9)  # a group of equal rewards where its advantages are not 0: only rounding is left
    rounded = torch.zeros(1).index_add(0, torch.zeros(56).long(), same).div(56).expand(56)
    assert (same != rounded).any()
    flat = entry(ledger_sums((-same, same), (1 - same, same), same, rounded, torch.ones(56).bool()))
    assert flat.step_size == flat.predicted == 0


def distribution(logits: Tensor) -> tuple[Tensor, Tensor]:
    """Log-probabilities of all arms, and the entropy repeated for each."""
    logp = logits.log_softmax(-1)
    return logp, (-(logp.exp() * logp).sum(-1, keepdim=True)).expand_as(logp)


@pytest.mark.parametrize("betas", [(0.9, 0.4), (0.5, 0.5), (0.5, 0), (0, 0.5)])
def test_on_a_softmax_bandit_the_prediction_is_the_measured_change(betas: tuple[float, float]) -> None:
    """Natural-gradient steps on 16 bandits of 30 arms, every arm listed with its probability: exact but for the second order."""
    torch.manual_seed(0)
    logits = 1.5 * torch.randn(16, 30, dtype=torch.float64)
    right = torch.rand(16, 30) < 0.3
    logp, entropy = distribution(logits)
    p = (logp.exp() * right).sum(-1, keepdim=True)
    advantages = torch.where(right, ((1 - p) / p) ** betas[0], -((p / (1 - p)) ** betas[1]))
    expected = (logp.exp() * advantages).sum(-1, keepdim=True).expand_as(logp)
    flat = [x.flatten() for x in (logp, entropy, advantages, expected, right, logp.exp())]
    for eta in (1e-4, 1e-3):
        new = [x.flatten() for x in distribution(logits + eta * (advantages - expected))]
        got = entry(ledger_sums((flat[0], flat[1]), (new[0], new[1]), *flat[2:]))
        assert got.step_size == pytest.approx(eta, rel=1e-3)
        assert got.predicted == pytest.approx(got.measured, rel=0.05)
        assert abs(got.measured) > 1e-3 * eta, "a change that small would agree with anything"


def test_sampled_groups_predict_what_the_whole_bandit_does() -> None:
    """Arms sampled in groups of 8 with group accuracies and group means, as in training: the same up to sampling noise."""
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(1, 20, dtype=torch.float64, generator=generator)
    right = torch.arange(20)[None] % 3 == 0
    logp, entropy = distribution(logits)
    arms = torch.multinomial(logp[0].exp(), 8 * 20000, replacement=True, generator=generator).view(-1, 8)
    outcome = right[0][arms]
    sampled = BetaFamily(0.9, 0.4)(outcome.double())
    # the step that these advantages ask for: each arm moves by eta times its mean sampled advantage
    counts = torch.zeros(20, dtype=torch.float64).index_add(0, arms.flatten(), torch.ones(arms.numel(), dtype=torch.float64))
    mean = torch.zeros(20, dtype=torch.float64).index_add(0, arms.flatten(), sampled.flatten()) / counts
    new_logp, new_entropy = distribution(logits + 1e-2 * mean)
    pick = lambda x: x[0][arms].flatten()  # noqa: E731
    baseline = sampled.mean(1, keepdim=True).expand_as(sampled).flatten()
    before, after = (pick(logp), pick(entropy)), (pick(new_logp), pick(new_entropy))
    got = entry(ledger_sums(before, after, sampled.flatten(), baseline, outcome.flatten()))
    assert got.measured == pytest.approx(float((new_entropy - entropy)[0, 0]))
    assert got.predicted == pytest.approx(got.measured, rel=0.25) and got.predicted_positive * got.predicted_negative != 0
