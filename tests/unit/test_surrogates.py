"""Policy losses other than PPO's, against their printed formulas in float64."""

from collections.abc import Callable
from math import exp
from typing import Any

import pytest
import torch
from torch import Tensor

from asym_lightning.algorithms import PPOClip
from asym_lightning.algorithms.losses import LossInputs
from asym_lightning.algorithms.modulation import EntropyAdvantage
from asym_lightning.algorithms.surrogates import CISPO, GSPO, SAPO, Ratio, Reinforce
from asym_lightning.types import ConfigError
from tests.support.parts import tokens

OLD = torch.tensor([-1.0, -2.0, -0.5, -3.0, -1.5], dtype=torch.float64)
STEP = torch.tensor([0.5, -0.5, 0.1, 2.0, -0.1], dtype=torch.float64)
ADVANTAGES = torch.tensor([1.0, 1.0, 1.0, -2.0, -2.0], dtype=torch.float64)
ROWS = torch.tensor([0, 0, 0, 1, 1])

Loss = Callable[[LossInputs], Any]
Formula = Callable[[Tensor, Tensor, float], Tensor]  # of logp, rho, A


def run(loss: Loss, step: Tensor = STEP) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
    """Per-token loss, gradient of its sum, diagnostics."""
    logp = (OLD + step).requires_grad_()
    out = loss(LossInputs(logp, OLD, ADVANTAGES, rows=ROWS))
    out.per_token.sum().backward()
    assert logp.grad is not None
    return out.per_token.detach(), logp.grad, out.diagnostics


def reference(formula: Formula) -> tuple[list[float], list[float]]:
    """Value and derivative of a token-wise formula (logp, rho, A), one token at a time."""
    values, grads = [], []
    for old, step, advantage in zip(OLD, STEP, ADVANTAGES, strict=True):
        logp = (old + step).clone().requires_grad_()
        value = formula(logp, (logp - old).exp(), float(advantage))
        value.backward()
        values.append(float(value.detach()))
        grads.append(float(logp.grad))  # type: ignore[arg-type]
    return values, grads


def clipped(low: float, high: float) -> Formula:
    return lambda logp, rho, a: -min(max(float(rho.detach()), low), high) * a * logp


def sapo(logp: Tensor, rho: Tensor, a: float) -> Tensor:
    tau = 1.0 if a > 0 else 1.05
    return -a * 4 / tau / (1 + (-tau * (rho - 1)).exp())


FORMULAS: dict[str, tuple[Loss, Formula]] = {
    "reinforce": (Reinforce(), lambda logp, rho, a: -a * logp),
    "cispo": (CISPO(0.8, 1.2), clipped(0.8, 1.2)),
    "cispo_cap": (CISPO(0.0, 5.0), clipped(0.0, 5.0)),
    "ratio": (Ratio(), lambda logp, rho, a: -a * rho),
    "sapo": (SAPO(), sapo),
}


@pytest.mark.parametrize("name", FORMULAS)
def test_values_and_gradients_are_those_of_the_formula(name: str) -> None:
    loss, formula = FORMULAS[name]
    values, grads, _ = run(loss)
    want = reference(formula)
    torch.testing.assert_close(values, torch.tensor(want[0], dtype=torch.float64))
    torch.testing.assert_close(grads, torch.tensor(want[1], dtype=torch.float64))


def test_cispo_keeps_the_gradient_of_clipped_tokens_that_ppo_drops() -> None:
    grads = run(CISPO(0.8, 1.2))[1]
    torch.testing.assert_close(grads[0], torch.tensor(-1.2, dtype=torch.float64))
    assert run(PPOClip())[1][0] == 0
    assert run(CISPO(0.8, 1.2))[2]["clip/high"].tolist() == [1, 0, 0, 1, 0]
    assert run(CISPO(0.8, 1.2))[2]["clip/low"].tolist() == [0, 1, 0, 0, 0]


def test_gspo_clips_whole_rollouts() -> None:
    # Rollout 0: mean step (.5 - .5 + .1)/3 = 1/30, s = e^(1/30) > 1 + 4e-4 with A > 0:
    # clipped, no gradient.
    # Rollout 1: mean step .95, s = e^.95, A < 0: not clipped, L = 2 s, and the losses of both
    # tokens have the gradient 2 s / 2 tokens.
    values, grads, diagnostics = run(GSPO())
    s = exp(0.95)
    want = torch.tensor([-1.0004] * 3 + [2 * s] * 2, dtype=torch.float64)
    torch.testing.assert_close(values, want)
    torch.testing.assert_close(grads, torch.tensor([0.0] * 3 + [2 * s] * 2, dtype=torch.float64))
    assert diagnostics["clip/high"].tolist() == [1, 1, 1, 0, 0]
    assert not diagnostics["clip/low"].any()


@pytest.mark.parametrize("loss", [Reinforce(), Ratio(), CISPO(0.8, 1.2), SAPO(), GSPO(), PPOClip()])
def test_on_policy_every_loss_has_the_gradient_of_reinforce(loss: Loss) -> None:
    torch.testing.assert_close(run(loss, torch.zeros(5, dtype=torch.float64))[1], -ADVANTAGES)


def test_no_tokens_at_all() -> None:
    empty = torch.zeros(0)
    inputs = LossInputs(empty, empty, empty, rows=torch.zeros(0, dtype=torch.long))
    for loss in (Reinforce(), Ratio(), CISPO(0.8, 1.2), SAPO(), GSPO()):
        assert loss(inputs).per_token.shape == (0,)


def test_bad_parameters() -> None:
    for make in (
        lambda: CISPO(1.5, 2),
        lambda: CISPO(0.5, 0.5),
        lambda: SAPO(0),
        lambda: SAPO(1, -1),
        lambda: GSPO(-1),
        lambda: GSPO(0, -1),
    ):
        with pytest.raises(ConfigError, match=r"^(low|high|tau_pos|tau_neg|clip_low|clip_high)="):
            make()  # type: ignore[no-untyped-call]
    for bad in ({"alpha": -1}, {"kappa": 1}):
        with pytest.raises(ConfigError, match=r"^(alpha|kappa)="):
            EntropyAdvantage(**bad)


def test_entropy_advantage_by_hand() -> None:
    advantages = torch.tensor([1.0, 1.0, -1.0, -1.0, 0.0])
    entropy = torch.tensor([0.5, 3.0, 0.5, 3.0, 3.0])
    given = tokens(advantages=advantages, entropy=entropy)
    got = EntropyAdvantage(0.4, 2.0).shape_advantages(given)
    torch.testing.assert_close(got, torch.tensor([1.2, 1.5, -0.8, -0.5, 0.0]))
