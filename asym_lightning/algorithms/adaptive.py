"""AsymGRPO with exponents that follow the entropy of each side. This one is ours, not a paper's."""

import math
from collections.abc import Mapping
from typing import Any, ClassVar, Literal

from jaxtyping import Float
from torch import Tensor

from asym_lightning.algorithms import checks
from asym_lightning.algorithms.advantages import BetaFamily
from asym_lightning.algorithms.steering import Observation, Steered


class AdaptiveBetaFamily(Steered):
    """The beta family (arXiv 2604.04894) with two integral controllers, one per sign. Made for this project.

    A larger beta_pos is meant to keep the entropy of right rollouts, a larger beta_neg to lower that of wrong ones. So after each step,
    with H+ and H- the token-mean entropies of right and of wrong rollouts in it, and H0+ and H0- those of the first step:

        beta_pos += rate (target_pos - H+ / H0+)      within [0, largest_pos]
        beta_neg += rate (H- / H0- - target_neg)      within [0, largest_neg]

    A step without rollouts of a sign leaves that exponent; an exponent at its limit does not wind up. The limits are the paper's: it
    reports 1.2 and .75 as too much. State: both exponents, H0+, H0-. At p = 0 and p = 1: as :class:`BetaFamily`.

    Args:
        beta_pos, beta_neg: the exponents of the first step.
        target_pos, target_neg: shares of the first step's entropy.
        rate: change of an exponent per step and unit of relative entropy.

    Raises:
        ConfigError: an exponent outside its limits, or a target or rate < 0.
        ValueError: as BetaFamily.
    """

    needs_group: ClassVar[bool] = True
    observes: ClassVar[bool] = True

    def __init__(
        self,
        beta_pos: float = 0.5,
        beta_neg: float = 0.5,
        target_pos: float = 0.6,
        target_neg: float = 0.4,
        rate: float = 0.02,
        largest_pos: float = 1.2,
        largest_neg: float = 0.75,
        degenerate_groups: Literal["keep", "zero"] = "keep",
        success_threshold: float | None = None,
    ):
        given = {"target_pos": target_pos, "target_neg": target_neg, "rate": rate, "largest_pos": largest_pos, "largest_neg": largest_neg}
        for name, value in given.items():
            checks.number(f"algo.advantage.{name}", value, 0)
        checks.number("algo.advantage.beta_pos", beta_pos, 0, largest_pos)
        checks.number("algo.advantage.beta_neg", beta_neg, 0, largest_neg)
        self.beta_pos, self.beta_neg, self.target_pos, self.target_neg = beta_pos, beta_neg, target_pos, target_neg
        self.rate, self.largest_pos, self.largest_neg = rate, largest_pos, largest_neg
        self.degenerate_groups, self.success_threshold = degenerate_groups, success_threshold
        self.first_pos = self.first_neg = math.nan
        self._family()

    def _family(self) -> BetaFamily:
        return BetaFamily(self.beta_pos, self.beta_neg, self.degenerate_groups, success_threshold=self.success_threshold)

    def __call__(self, rewards: Float[Tensor, "groups G"]) -> Float[Tensor, "groups G"]:
        return self._family()(rewards)

    def observe(self, seen: Observation) -> None:
        positive, negative = seen.entropy_positive, seen.entropy_negative
        self.first_pos = positive if math.isnan(self.first_pos) else self.first_pos
        self.first_neg = negative if math.isnan(self.first_neg) else self.first_neg
        if positive == positive and self.first_pos > 0:
            self.beta_pos = min(max(self.beta_pos + self.rate * (self.target_pos - positive / self.first_pos), 0.0), self.largest_pos)
        if negative == negative and self.first_neg > 0:
            self.beta_neg = min(max(self.beta_neg + self.rate * (negative / self.first_neg - self.target_neg), 0.0), self.largest_neg)

    def metrics(self) -> dict[str, float]:
        return {"steer/beta_pos": self.beta_pos, "steer/beta_neg": self.beta_neg}

    def state_dict(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in ("beta_pos", "beta_neg", "first_pos", "first_neg")}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        for name in ("beta_pos", "beta_neg", "first_pos", "first_neg"):
            setattr(self, name, state[name])
