"""A penalty that keeps the policy close to the policy that training started from."""

from dataclasses import dataclass
from typing import ClassVar, Literal

from jaxtyping import Float
from torch import Tensor

from asym_lightning.algorithms.modulation import Modulation
from asym_lightning.algorithms.tokens import Tokens
from asym_lightning.checks import NonNegative, validated


@validated
@dataclass(frozen=True)
class ReferenceKL(Modulation):
    """An estimate of KL(policy || reference) per token, times coef.

    The reference is the policy before the first update. Without this modulation no reference model
    exists. With d = logp - reference_logp: k1 = d, k2 = d^2 / 2, k3 = exp(-d) - 1 + d
    (Schulman, "Approximating KL divergence", 2020).

    ``where="loss"`` adds it to the loss (GRPO, arXiv 2402.03300 eq. 4: k3, .001 to .04). As a loss
    term only k2 has the gradient of the KL; the gradient of k1 is 0 in expectation.
    ``where="reward"`` subtracts the sum over a rollout from its reward, before the advantage. Here
    d is the sampling engine's log-prob minus the reference's. Rewards become graded; rollouts that
    ``mask_truncated`` leaves out are not scored and keep their rewards.
    At p = 0 and p = 1: acts as at any other p.

    Raises:
        FieldError: coef < 0, or an unknown estimator or place.
    """

    coef: NonNegative = 0.001
    estimator: Literal["k1", "k2", "k3"] = "k3"
    where: Literal["loss", "reward"] = "loss"
    needs_reference: ClassVar[bool] = True

    def estimate(
        self, logp: Float[Tensor, "n"], reference_logp: Float[Tensor, "n"]
    ) -> Float[Tensor, "n"]:
        """The chosen estimate (nats), per token."""
        d = logp - reference_logp
        if self.estimator == "k1":
            return d
        if self.estimator == "k2":
            return d.square() / 2
        return (-d).clamp(max=20.0).exp() - 1 + d

    def reward_term(
        self, engine_logp: Float[Tensor, "n"], reference_logp: Float[Tensor, "n"]
    ) -> Float[Tensor, "n"] | None:
        if self.where == "loss":
            return None
        return -self.coef * self.estimate(engine_logp, reference_logp)

    def loss_term(self, tokens: Tokens) -> Float[Tensor, "n"] | None:
        if self.where == "reward":
            return None
        assert tokens.reference_logp is not None
        return self.coef * self.estimate(tokens.logp, tokens.reference_logp)
