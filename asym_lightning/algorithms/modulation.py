"""Entropy modulations: what acts on entropy beside the advantage and the policy loss. They compose; none is the empty list."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from asym_lightning.algorithms import checks


class Modulation:
    """Base class: every hook does nothing. ``needs_entropy_grad`` says whether ``loss_term`` differentiates the entropy."""

    needs_entropy_grad: ClassVar[bool] = False

    def shape_advantages(self, advantages: Float[Tensor, "n"], logp: Float[Tensor, "n"], entropy: Float[Tensor, "n"]) -> Float[Tensor, "n"]:
        """New advantages of the tokens. Must carry no gradient: detach what is computed from ``logp`` or ``entropy``."""
        return advantages

    def loss_term(self, logp: Float[Tensor, "n"], entropy: Float[Tensor, "n"]) -> Float[Tensor, "n"] | None:
        """Added per token to the policy loss, with the same weights; None adds nothing."""
        return None

    def state_dict(self) -> dict[str, Any]:
        """What a resumed run needs (a coefficient that is steered, say)."""
        return {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take back what ``state_dict`` gave."""


@dataclass(frozen=True)
class EntropyBonus(Modulation):
    """Adds -coef * H_t to the loss of every token, H_t the entropy (nats) of the full next-token distribution.

    Source: Mnih et al., arXiv 1602.01783 section 4. How sensitive it is: arXiv 2505.22617 fig. 9 (1e-4 and 1e-3 do little,
    5e-3 holds the entropy, 1e-2 explodes). At p = 0 and p = 1: acts all the same, it does not look at rewards.

    Raises:
        ConfigError: coef < 0.
    """

    coef: float = 1e-3
    needs_entropy_grad: ClassVar[bool] = True

    def __post_init__(self) -> None:
        checks.number("algo.modulation.entropy_bonus.coef", self.coef, 0)

    def loss_term(self, logp: Float[Tensor, "n"], entropy: Float[Tensor, "n"]) -> Float[Tensor, "n"]:
        return -self.coef * entropy


@dataclass(frozen=True)
class EntropyAdvantage(Modulation):
    """A_t += min(alpha H_t, |A_t| / kappa), H_t without gradient: tokens where the policy hesitates weigh more on right rollouts and
    less on wrong ones; the sign of A never turns for kappa > 1.

    Source: arXiv 2506.14758 (alpha .4, kappa 2). At p = 0 and p = 1: adds nothing where A = 0.

    Raises:
        ConfigError: alpha < 0 or kappa <= 1.
    """

    alpha: float = 0.4
    kappa: float = 2.0

    def __post_init__(self) -> None:
        checks.number("algo.modulation.entropy_advantage.alpha", self.alpha, 0)
        checks.number("algo.modulation.entropy_advantage.kappa", self.kappa, 1, open_low=True)

    def shape_advantages(self, advantages: Float[Tensor, "n"], logp: Float[Tensor, "n"], entropy: Float[Tensor, "n"]) -> Float[Tensor, "n"]:
        return advantages + torch.minimum(self.alpha * entropy, advantages.abs() / self.kappa)
