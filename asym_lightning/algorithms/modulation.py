"""Entropy modulations: parts beside the advantage and the policy loss that act on entropy.

They compose; an empty list means no modulation.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor

from asym_lightning import checks
from asym_lightning.algorithms.steering import Observation, Steered
from asym_lightning.algorithms.tokens import Tokens
from asym_lightning.checks import NonNegative, validated


class Modulation(Steered):
    """Base class of modulations: every hook does nothing.

    ``needs_entropy_grad``: ``loss_term`` differentiates an entropy.
    ``needs_batch``: ``prepare`` is called before the first backward pass of a mini-batch with the
    tokens of all its micro-batches and all ranks. Costs a forward pass if there are several
    micro-batches.
    ``nucleus``: the top-p of ``nucleus_entropy``, None if it is not needed.
    ``needs_reference``: the initial policy is kept and scores every rollout.
    ``idle_at_zero``: a token with advantage 0 gets no gradient from the modulation, so that
    micro-batches of such tokens need no backward pass.
    """

    needs_entropy_grad: ClassVar[bool] = False
    needs_batch: ClassVar[bool] = False
    needs_reference: ClassVar[bool] = False
    idle_at_zero: ClassVar[bool] = False
    nucleus: float | None = None

    def prepare(self, tokens: Tokens, generator: torch.Generator) -> Float[Tensor, "n"]:
        """One number per token of the full mini-batch, available later as ``tokens.plan``.

        Tokens carry no gradient here and have the same order for any number of ranks and
        micro-batches; ``generator`` has the same seed on every rank.
        """
        raise NotImplementedError(f"{type(self).__name__} sets needs_batch, but has no prepare()")

    def shape_advantages(self, tokens: Tokens) -> Float[Tensor, "n"]:
        """New advantages of the tokens. Tokens carry no gradient here."""
        return tokens.advantages

    def reward_term(
        self, engine_logp: Float[Tensor, "n"], reference_logp: Float[Tensor, "n"]
    ) -> Float[Tensor, "n"] | None:
        """A term per token whose sum over a rollout is added to the reward, before the advantage.

        None adds nothing. ``engine_logp`` is the log-prob with which the engine sampled the token.
        """
        return None

    def loss_term(self, tokens: Tokens) -> Float[Tensor, "n"] | None:
        """A term added per token to the policy loss, with the same weights; None adds nothing."""
        return None


@validated
@dataclass(frozen=True)
class EntropyBonus(Modulation):
    """Adds -coef * H_t to the loss of every token.

    H_t is the entropy (nats) of the full next-token distribution.

    Source: Mnih et al., arXiv 1602.01783 section 4. Its sensitivity: arXiv 2505.22617 fig. 9 (1e-4
    and 1e-3 do little, 5e-3 holds the entropy, 1e-2 explodes). At p = 0 and p = 1: acts as at any
    other p, it does not use rewards.

    Raises:
        FieldError: coef < 0.
    """

    coef: NonNegative = 1e-3
    needs_entropy_grad: ClassVar[bool] = True

    def loss_term(self, tokens: Tokens) -> Float[Tensor, "n"]:
        return -self.coef * tokens.entropy


@validated
@dataclass(frozen=True)
class EntropyAdvantage(Modulation):
    """A_t += min(alpha H_t, |A_t| / kappa), with H_t without gradient.

    Tokens with high entropy weigh more on correct rollouts and less on wrong ones; the sign of A
    never changes for kappa > 1.

    Source: arXiv 2506.14758 (alpha .4, kappa 2). At p = 0 and p = 1: adds nothing where A = 0.

    Raises:
        FieldError: alpha < 0 or kappa <= 1.
    """

    alpha: NonNegative = 0.4
    kappa: Annotated[float, Field(gt=1)] = 2.0
    idle_at_zero: ClassVar[bool] = True

    def shape_advantages(self, tokens: Tokens) -> Float[Tensor, "n"]:
        limit = tokens.advantages.abs() / self.kappa
        return tokens.advantages + torch.minimum(self.alpha * tokens.entropy, limit)


@validated
class AdaptiveEntropyBonus(Modulation):
    """An entropy bonus that acts only below a target entropy and adapts its coefficient to it.

    After each step with the token-mean entropy H of its rollouts: coef += rate if H < target, else
    coef -= rate, kept within [0, largest]; the next step's loss gets -coef H_t if H < target, else
    no bonus.

    Source: Skywork-OR1, arXiv 2505.22312 (target .2, rate 1e-4, largest 5e-3). There H is the
    current step's; here it is the previous step's, which needs no second pass over the batch. At
    p = 0 and p = 1: acts as at any other p, it does not use rewards.

    Raises:
        FieldError: target, rate or largest < 0, or start outside [0, largest].
    """

    needs_entropy_grad: ClassVar[bool] = True
    observes: ClassVar[bool] = True

    def __init__(
        self,
        target: NonNegative = 0.2,
        rate: NonNegative = 1e-4,
        largest: NonNegative = 5e-3,
        start: NonNegative = 0.0,
    ):
        checks.number("start", start, 0, high=largest)
        self.target, self.rate, self.largest, self.coef = target, rate, largest, start
        self.below = True

    def loss_term(self, tokens: Tokens) -> Float[Tensor, "n"]:
        return -(self.coef if self.below else 0.0) * tokens.entropy

    def observe(self, seen: Observation) -> None:
        self.below = seen.entropy < self.target
        change = self.rate if self.below else -self.rate
        self.coef = min(max(self.coef + change, 0.0), self.largest)

    def metrics(self) -> dict[str, float]:
        return {"steer/entropy_coef": self.coef}

    def state_dict(self) -> dict[str, Any]:
        return {"coef": self.coef, "below": self.below}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.coef, self.below = state["coef"], state["below"]
