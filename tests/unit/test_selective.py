"""Modulations that choose tokens of a mini-batch, and the KL to the reference.

By hand and against autograd.
"""

from math import exp
from typing import Any

import pytest
import torch
from torch import Tensor

from asym_lightning.algorithms import Modulation, Tokens
from asym_lightning.algorithms.reference import ReferenceKL
from asym_lightning.algorithms.selective import SIREN, ClipCov, KLCov, TopEntropy, covariance
from asym_lightning.learner.planning import plan_modulations
from asym_lightning.types import ConfigError, FieldError
from tests.support.parts import algorithm, tokens

GENERATOR = torch.Generator().manual_seed(0)
# The means are -2 and 0, so the covariances are 2, -2, -2, 2.
FOUR = tokens(
    logp=torch.tensor([-1.0, -3.0, -1.0, -3.0]), advantages=torch.tensor([2.0, 2.0, -2.0, -2.0])
)


def with_plan(modulation: Modulation, given: Tokens) -> Tokens:
    given.plan = modulation.prepare(given.detached(), GENERATOR)
    return given


def test_covariance_by_hand() -> None:
    assert covariance(FOUR).tolist() == [2, -2, -2, 2]
    # The means are -2 and 1.
    five = tokens(
        logp=torch.tensor([-1.0, -2, -3, -4, 0]), advantages=torch.tensor([1.0, 0, 0, -1, 5])
    )
    torch.testing.assert_close(covariance(five), torch.tensor([0.0, 0, 1, 4, 8]))


def test_clip_cov_drops_tokens_within_its_bounds_only() -> None:
    both = with_plan(ClipCov(ratio=0.5), FOUR)
    assert ClipCov(ratio=0.5).shape_advantages(both).tolist() == [0, 2, -2, 0]
    dropped = ClipCov(ratio=2e-4).prepare(FOUR, GENERATOR)  # at least one
    assert dropped.sum() == 3 and dropped[1] == dropped[2] == 1
    for low, high in ((2.0, 5.0), (1.0, 2.0)):  # bounds are open
        assert ClipCov(0.5, low, high).prepare(FOUR, GENERATOR).tolist() == [1, 1, 1, 1]


def test_kl_cov_pulls_the_tokens_of_highest_covariance_back() -> None:
    modulation = KLCov(coef=0.5, ratio=0.25)
    logp = torch.tensor([-1.0, -3.0, -1.0, -3.0], dtype=torch.float64, requires_grad=True)
    advantages = FOUR.advantages.double()
    batch = tokens(logp=logp, old_logp=logp.detach() + 0.2, advantages=advantages)
    given = with_plan(modulation, batch)
    term = modulation.loss_term(given)
    torch.testing.assert_close(term, torch.tensor([0.1, 0, 0, 0], dtype=torch.float64))
    assert torch.autograd.grad(term.sum(), logp)[0].tolist() == [-0.5, 0, 0, 0]
    given.old_logp = logp.detach()
    gradient = torch.autograd.grad(modulation.loss_term(given).sum(), logp)[0]
    assert not gradient.any(), "on-policy its gradient is 0"


def test_top_entropy_keeps_the_most_uncertain_tokens() -> None:
    given = tokens(
        entropy=torch.tensor([0.1, 0.9, 0.5, 0.2, 0.3]), advantages=torch.full((5,), -3.0)
    )
    for share, want in (
        (0.2, [0, -3, 0, 0, 0]),
        (0.4, [0, -3, -3, 0, 0]),
        (0.01, [0, -3, 0, 0, 0]),
        (1.0, [-3] * 5),
    ):
        top = TopEntropy(share)
        assert top.shape_advantages(with_plan(top, given)).tolist() == want


def test_siren_has_the_gradient_of_its_square() -> None:
    siren = SIREN(coef=0.3, quantile=0.5)
    rows = torch.tensor([0, 0, 0, 1, 1])
    weights = torch.tensor([0.1, 0.2, 0.3, 0.1, 0.3], dtype=torch.float64)
    entropy = torch.tensor([0.1, 0.5, 0.3, 0.2, 0.4], dtype=torch.float64)
    # The upper half: two of three tokens, one of two.
    mask = torch.tensor([False, True, True, False, True])
    with_plan(siren, tokens(nucleus_entropy=entropy, rows=rows, weights=weights))
    anchor = float((weights * entropy)[mask].sum() / weights[mask].sum())
    assert siren.anchor == pytest.approx(anchor)
    step = torch.tensor([0.3, 0.1, 0.2, 0.0, -0.1], dtype=torch.float64)
    later = (entropy + step).requires_grad_()
    given = with_plan(siren, tokens(nucleus_entropy=later, rows=rows, weights=weights))
    got = torch.autograd.grad((siren.loss_term(given) * weights).sum(), later)[0]
    assert siren.metrics()["steer/siren_entropy"] != siren.metrics()["steer/siren_anchor"]
    # At the later entropies the first rollout has another upper half: that of the plan.
    assert given.plan is not None
    mask = given.plan != 0
    printed = 0.3 * ((weights * later)[mask].sum() / weights[mask].sum() - anchor) ** 2
    torch.testing.assert_close(got, torch.autograd.grad(printed, later)[0])
    resumed = SIREN(coef=0.3, quantile=0.5)
    resumed.load_state_dict(siren.state_dict())
    assert resumed.anchor == siren.anchor


def test_the_estimators_of_the_kl() -> None:
    logp = torch.tensor([-1.0, -2.0, -0.5], dtype=torch.float64, requires_grad=True)
    reference = torch.tensor([-1.5, -1.0, -0.5], dtype=torch.float64)  # d = .5, -1, 0
    given = tokens(logp=logp, reference_logp=reference)
    wants = {
        "k1": ([0.5, -1, 0], [1, 1, 1]),
        "k2": ([0.125, 0.5, 0], [0.5, -1, 0]),
        "k3": ([exp(-0.5) - 0.5, exp(1) - 2, 0], [1 - exp(-0.5), 1 - exp(1), 0]),
    }
    for name, (values, slopes) in wants.items():
        term = ReferenceKL(0.1, name).loss_term(given)  # type: ignore[arg-type]
        assert term is not None
        torch.testing.assert_close(term, 0.1 * torch.tensor(values, dtype=torch.float64))
        gradient = torch.autograd.grad(term.sum(), logp)[0]
        torch.testing.assert_close(gradient, 0.1 * torch.tensor(slopes, dtype=torch.float64))
    in_reward = ReferenceKL(0.1, "k1", "reward")
    assert in_reward.loss_term(given) is None
    reward = in_reward.reward_term(logp.detach(), reference)
    torch.testing.assert_close(reward, torch.tensor([-0.05, 0.1, 0], dtype=torch.float64))
    assert ReferenceKL(0.1, "k1").reward_term(logp, reference) is None


def random_tokens(n_rollouts: int) -> list[Tokens]:
    """One part per rollout of a few tokens each."""
    generator = torch.Generator().manual_seed(1)
    parts = []
    for row in range(n_rollouts):
        n = int(torch.randint(1, 7, (1,), generator=generator))
        values: dict[str, Tensor] = {}
        for name in ("logp", "old_logp", "entropy", "nucleus_entropy"):
            values[name] = torch.rand(n, generator=generator, dtype=torch.float64)
        advantage = torch.randn(1, generator=generator, dtype=torch.float64)
        values["advantages"] = advantage.expand(n) * 4
        parts.append(tokens(**values, rows=torch.full((n,), row)))
    return parts


def joined(parts: list[Tokens]) -> Tokens:
    names = [name for name, value in vars(parts[0]).items() if value is not None]
    return Tokens(**{name: torch.cat([getattr(p, name) for p in parts]) for name in names})


@pytest.mark.parametrize(
    "make", [lambda: ClipCov(0.1, 0.0, 9.0), lambda: KLCov(1.0, 0.1), TopEntropy, SIREN]
)
def test_the_choice_is_the_same_however_the_batch_is_cut(make: Any) -> None:
    rollouts = random_tokens(12)
    uncut = plan_modulations([make()], [joined(rollouts)], 4, seed=3)[0][0]
    assert uncut is not None
    order = [7, 2, 11, 0, 5, 9, 1, 3, 10, 4, 8, 6]
    cut = [joined([rollouts[i] for i in part]) for part in (order[:5], order[5:6], order[6:])]
    pieces = plan_modulations([make()], cut, 4, seed=3)
    by_row = torch.cat([p.rows for p in cut])
    again = torch.cat([piece[0] for piece in pieces])  # type: ignore[misc]
    torch.testing.assert_close(torch.cat([again[by_row == row] for row in range(12)]), uncut)


def test_modulations_see_what_earlier_ones_made_of_the_advantages() -> None:
    parts = random_tokens(6)
    alone = plan_modulations([KLCov(1.0, 0.1)], parts, 2, seed=0)
    after = plan_modulations([TopEntropy(0.1), KLCov(1.0, 0.1)], parts, 2, seed=0)
    chosen = torch.cat([p[1] for p in after])  # type: ignore[misc]
    kept = torch.cat([p[0] for p in after])  # type: ignore[misc]
    batch = joined(parts)
    batch.advantages = batch.advantages * kept
    want = KLCov(1.0, 0.1).prepare(batch, GENERATOR)
    assert torch.equal(chosen, want)
    assert not torch.equal(chosen, torch.cat([p[0] for p in alone]))  # type: ignore[misc]


def test_bad_parameters() -> None:
    for make in (
        lambda: ClipCov(0),
        lambda: ClipCov(0.1, 2, 2),
        lambda: KLCov(-1),
        lambda: KLCov(1, 2),
        lambda: TopEntropy(0),
        lambda: SIREN(-1),
        lambda: SIREN(1, 0),
        lambda: SIREN(1, 0.5, 2),
        lambda: ReferenceKL(-1),
        lambda: ReferenceKL(1, "k4"),  # type: ignore[arg-type]
        lambda: ReferenceKL(1, "k1", "both"),  # type: ignore[arg-type]
    ):
        with pytest.raises(FieldError, match=r"^\w+="):
            make()
    with pytest.raises(ConfigError, match="top_p"):
        algorithm(modulation=[SIREN(top_p=0.8), SIREN(top_p=0.9)])
