"""AsymGRPO with exponents that follow the entropy of each sign: our own method, not a paper's."""

import math
from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal

from jaxtyping import Float
from pydantic import Field
from torch import Tensor

from asym_lightning import checks
from asym_lightning.algorithms.advantages import BetaFamily
from asym_lightning.algorithms.steering import Observation, Steered
from asym_lightning.checks import NonNegative, validated

STATE = ("beta_pos", "beta_neg", "first_pos", "first_neg", "share_pos", "share_neg")


@validated
class AdaptiveBetaFamily(Steered):
    """The beta family (arXiv 2604.04894) with a controller for each exponent.

    Made for this project. A larger beta_pos keeps entropy, a larger beta_neg lowers it. Let h be
    the token-mean entropy of correct (wrong) rollouts divided by that of the first step, smoothed
    over steps: h = smoothing h + (1 - smoothing) (this step's ratio). After each step

        beta_pos += rate (target_pos - h) + gain (h_before - h)      within [0, largest_pos]
        beta_neg -= rate (target_neg - h) + gain (h_before - h)      within [0, largest_neg]

    This is a PI controller in velocity form: the first term removes the remaining error, the second
    resists a fall before the target is reached. An exponent at its limit does not wind up. The
    default limits are the paper's, which reports 1.2 and .75 as too much; a target that needs a
    larger exponent is not reached, and the logged exponent then stays at its limit.
    A step without rollouts of a sign leaves that sign's exponent unchanged. State: both exponents,
    both first entropies, both h. At p = 0 and p = 1: as :class:`BetaFamily`.

    Args:
        beta_pos, beta_neg: the exponents of the first step.
        target_pos, target_neg: shares of the first step's entropy.
        rate: change of an exponent per step and unit of missing relative entropy.
        gain: change of an exponent per unit of lost relative entropy.
        smoothing: share of h that is kept from step to step.
        largest_pos, largest_neg: upper limits of the exponents.
        degenerate_groups, success_threshold: as in BetaFamily.

    Raises:
        FieldError: an exponent outside its limits, a target, rate, gain or upper limit < 0, or
            smoothing outside [0, .999].
        ValueError: as BetaFamily.
    """

    needs_group: ClassVar[bool] = True
    observes: ClassVar[bool] = True

    def __init__(
        self,
        beta_pos: NonNegative = 0.9,
        beta_neg: NonNegative = 0.4,
        target_pos: NonNegative = 0.4,
        target_neg: NonNegative = 0.6,
        rate: NonNegative = 0.05,
        gain: NonNegative = 5.0,
        smoothing: Annotated[float, Field(ge=0, le=0.999)] = 0.9,
        largest_pos: NonNegative = 1.2,
        largest_neg: NonNegative = 0.75,
        degenerate_groups: Literal["keep", "zero"] = "keep",
        success_threshold: float | None = None,
    ):
        checks.number("beta_pos", beta_pos, 0, high=largest_pos)
        checks.number("beta_neg", beta_neg, 0, high=largest_neg)
        self.beta_pos, self.beta_neg = beta_pos, beta_neg
        self.target_pos, self.target_neg = target_pos, target_neg
        self.rate, self.gain, self.smoothing = rate, gain, smoothing
        self.largest_pos, self.largest_neg = largest_pos, largest_neg
        self.degenerate_groups, self.success_threshold = degenerate_groups, success_threshold
        # nan until a step has rollouts of that sign.
        self.first_pos = self.first_neg = math.nan
        self.share_pos = self.share_neg = 1.0
        # BetaFamily checks the remaining parameters.
        self._family()

    def _family(self) -> BetaFamily:
        """The beta family with the current exponents."""
        return BetaFamily(
            beta_pos=self.beta_pos,
            beta_neg=self.beta_neg,
            degenerate_groups=self.degenerate_groups,
            success_threshold=self.success_threshold,
        )

    def __call__(self, rewards: Float[Tensor, "groups G"]) -> Float[Tensor, "groups G"]:
        return self._family()(rewards)

    def observe(self, seen: Observation) -> None:
        self.first_pos, self.share_pos, push = self._follow(
            seen.entropy_positive,
            first=self.first_pos,
            share_before=self.share_pos,
            target=self.target_pos,
        )
        self.beta_pos = min(max(self.beta_pos + push, 0.0), self.largest_pos)
        self.first_neg, self.share_neg, push = self._follow(
            seen.entropy_negative,
            first=self.first_neg,
            share_before=self.share_neg,
            target=self.target_neg,
        )
        self.beta_neg = min(max(self.beta_neg - push, 0.0), self.largest_neg)

    def _follow(
        self, entropy: float, *, first: float, share_before: float, target: float
    ) -> tuple[float, float, float]:
        """One controller step for one sign.

        Returns the first entropy, the smoothed share h after this step, and the controller's
        output: how much to raise entropy (negative: lower it).
        """
        first = entropy if math.isnan(first) else first
        if math.isnan(entropy) or not first > 0:
            return first, share_before, 0.0
        share = self.smoothing * share_before + (1 - self.smoothing) * entropy / first
        push = self.rate * (target - share) + self.gain * (share_before - share)
        return first, share, push

    def metrics(self) -> dict[str, float]:
        """The exponents, and the entropy of correct and of wrong rollouts over the first step's."""
        return {
            "steer/beta_pos": self.beta_pos,
            "steer/beta_neg": self.beta_neg,
            "steer/entropy_share_pos": self.share_pos,
            "steer/entropy_share_neg": self.share_neg,
        }

    def state_dict(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in STATE}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        for name in STATE:
            setattr(self, name, state[name])
