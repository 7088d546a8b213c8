"""Modulations, and the order in which an Algorithm keeps them."""

from typing import Any

import pytest
import torch

from asym_lightning.algorithms import (
    Algorithm,
    BetaFamily,
    EntropyBonus,
    Modulation,
    PPOClip,
    TokenMean,
)
from asym_lightning.types import ConfigError
from tests.support.parts import tokens


def algorithm(modulation: Any = ()) -> Algorithm:
    advantage = BetaFamily(0.9, 0.4)
    return Algorithm("test", advantage, PPOClip(), aggregation=TokenMean(), modulation=modulation)


def test_the_base_class_does_nothing() -> None:
    given = tokens(logp=torch.randn(3), advantages=torch.randn(3), entropy=torch.rand(3))
    base = Modulation()
    assert base.shape_advantages(given) is given.advantages
    assert base.loss_term(given) is None and not base.needs_entropy_grad and not base.needs_batch
    assert base.state_dict() == {}


def test_entropy_bonus_value_and_gradient() -> None:
    """d(-c H)/dz_j = c p_j (log p_j + H), with H the entropy of softmax(z)."""
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(4, 7, generator=generator, dtype=torch.float64, requires_grad=True)
    logs = logits.log_softmax(-1)
    entropy = -(logs.exp() * logs).sum(-1)
    bonus = EntropyBonus(0.25)
    term = bonus.loss_term(tokens(logp=logs[:, 0], entropy=entropy))
    torch.testing.assert_close(term, -0.25 * entropy)
    gradient = torch.autograd.grad(term.sum(), logits)[0]
    torch.testing.assert_close(gradient, (0.25 * logs.exp() * (logs + entropy[:, None])).detach())
    assert bonus.needs_entropy_grad


@pytest.mark.parametrize("coef", [-0.1, float("nan"), "much"])
def test_entropy_bonus_refuses(coef: float) -> None:
    message = f"coef={coef}: must be a finite number >= 0"
    with pytest.raises(ConfigError, match=message):
        EntropyBonus(coef)


def test_modulations_are_kept_in_order_whether_named_or_listed() -> None:
    first, second = EntropyBonus(0.1), Modulation()
    assert algorithm({"b": first, "a": second}).modulation == (first, second)
    assert algorithm([second, first]).modulation == (second, first)
    assert algorithm({}).modulation == algorithm().modulation == ()


def test_what_is_no_modulation_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"^modulation\.coef=1: must be a modulation"):
        algorithm({"coef": 1})
