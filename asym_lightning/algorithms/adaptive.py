"""AsymGRPO with exponents that follow the entropy of each side. This one is ours, not a paper's."""

import math
from collections.abc import Mapping
from typing import Any, ClassVar, Literal

from jaxtyping import Float
from torch import Tensor

from asym_lightning import checks
from asym_lightning.algorithms.advantages import BetaFamily
from asym_lightning.algorithms.steering import Observation, Steered

STATE = ("beta_pos", "beta_neg", "first_pos", "first_neg", "share_pos", "share_neg")


class AdaptiveBetaFamily(Steered):
    """The beta family (arXiv 2604.04894) with a controller for each exponent. Made for this project.

    A larger beta_pos keeps entropy, a larger beta_neg lowers it. So after each step, with h the token-mean entropy of right (wrong)
    rollouts over that of the first step, smoothed over steps by h = smoothing h + (1 - smoothing) (that of this step):

        beta_pos += rate (target_pos - h) + gain (h_before - h)      within [0, largest_pos]
        beta_neg -= rate (target_neg - h) + gain (h_before - h)      within [0, largest_neg]

    which is a PI controller in velocity form: the first term removes what is left of the error, the second resists a fall before the
    target is reached. An exponent at its limit does not wind up. The limits are the paper's, which reports 1.2 and .75 as too much;
    a target that needs more than they allow is not reached, and the logged exponents then stand at their limits.
    A step without rollouts of a sign leaves that exponent. State: both exponents, both first entropies, both h.
    At p = 0 and p = 1: as :class:`BetaFamily`.

    Args:
        beta_pos, beta_neg: the exponents of the first step.
        target_pos, target_neg: shares of the first step's entropy.
        rate: change of an exponent per step and unit of relative entropy missing.
        gain: change of an exponent per unit of relative entropy lost.
        smoothing: share of h that is kept from step to step.

    Raises:
        ConfigError: an exponent outside its limits, a target, rate or gain < 0, smoothing outside [0, 1).
        ValueError: as BetaFamily.
    """

    needs_group: ClassVar[bool] = True
    observes: ClassVar[bool] = True

    def __init__(
        self,
        beta_pos: float = 0.9,
        beta_neg: float = 0.4,
        target_pos: float = 0.4,
        target_neg: float = 0.6,
        rate: float = 0.05,
        gain: float = 5.0,
        smoothing: float = 0.9,
        largest_pos: float = 1.2,
        largest_neg: float = 0.75,
        degenerate_groups: Literal["keep", "zero"] = "keep",
        success_threshold: float | None = None,
    ):
        given = {"target_pos": target_pos, "target_neg": target_neg, "rate": rate, "gain": gain}
        for name, value in (given | {"largest_pos": largest_pos, "largest_neg": largest_neg}).items():
            checks.number(f"algo.advantage.{name}", value, 0)
        checks.number("algo.advantage.smoothing", smoothing, 0, 0.999)
        checks.number("algo.advantage.beta_pos", beta_pos, 0, largest_pos)
        checks.number("algo.advantage.beta_neg", beta_neg, 0, largest_neg)
        self.beta_pos, self.beta_neg, self.target_pos, self.target_neg = beta_pos, beta_neg, target_pos, target_neg
        self.rate, self.gain, self.smoothing, self.largest_pos, self.largest_neg = rate, gain, smoothing, largest_pos, largest_neg
        self.degenerate_groups, self.success_threshold = degenerate_groups, success_threshold
        self.first_pos = self.first_neg = math.nan  # until a step had such rollouts
        self.share_pos = self.share_neg = 1.0
        self._family()

    def _family(self) -> BetaFamily:
        return BetaFamily(self.beta_pos, self.beta_neg, self.degenerate_groups, success_threshold=self.success_threshold)

    def __call__(self, rewards: Float[Tensor, "groups G"]) -> Float[Tensor, "groups G"]:
        return self._family()(rewards)

    def observe(self, seen: Observation) -> None:
        self.first_pos, self.share_pos, push = self._follow(seen.entropy_positive, self.first_pos, self.share_pos, self.target_pos)
        self.beta_pos = min(max(self.beta_pos + push, 0.0), self.largest_pos)
        self.first_neg, self.share_neg, push = self._follow(seen.entropy_negative, self.first_neg, self.share_neg, self.target_neg)
        self.beta_neg = min(max(self.beta_neg - push, 0.0), self.largest_neg)

    def _follow(self, entropy: float, first: float, before: float, target: float) -> tuple[float, float, float]:
        """First entropy and smoothed share after this step, and how much the controller wants entropy raised."""
        first = entropy if math.isnan(first) else first
        if math.isnan(entropy) or not first > 0:
            return first, before, 0.0
        share = self.smoothing * before + (1 - self.smoothing) * entropy / first
        return first, share, self.rate * (target - share) + self.gain * (before - share)

    def metrics(self) -> dict[str, float]:
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
