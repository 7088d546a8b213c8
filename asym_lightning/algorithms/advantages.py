"""Advantage estimators: rewards [groups, G] in, advantages [groups, G] out.

An estimator gets the rewards of the full mini-batch over all ranks, so it may look beyond the
group (batchwise.py).
"""

from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal, Protocol

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from asym_lightning.checks import NoBool, NonNegative, validated
from asym_lightning.types import FieldError

# Of a group's standard deviation: 0 divides by G, 1 by G - 1.
DegreesOfFreedom = Annotated[Literal[0, 1], NoBool]


class Advantage(Protocol):
    """The interface of an advantage estimator.

    ``needs_group`` is True if it requires G >= 2. An estimator with ``uses_lengths`` also gets
    ``lengths=`` [groups, G], the rollouts' lengths in tokens.
    """

    needs_group: ClassVar[bool]

    def __call__(self, rewards: Float[Tensor, "groups G"]) -> Float[Tensor, "groups G"]: ...


@validated
@dataclass(frozen=True)
class BetaFamily:
    """AsymGRPO and its relatives: an exponent for correct rollouts and one for wrong rollouts.

    Source: AsymGRPO, arXiv 2604.04894. With p = (number of successes) / G, taken from an integer
    count,

        A_i = ((1-p)/p)^beta_pos     if rollout i succeeded
        A_i = -(p/(1-p))^beta_neg    if it failed

    (0, 0) is REINFORCE (+1/-1), (.5, .5) is GRPO with population std and eps 0, (.9, .4) is the
    paper's main setting, (.5, 0) is Pos-Only and (0, .5) Neg-Only: the other sign keeps the
    constant weight 1.

    At p = 0 and p = 1: the formula gives 0 where beta > 0 and, as 0^0 = 1, -1 (p = 0) or +1 (p = 1)
    where beta = 0; ``degenerate_groups="zero"`` makes both 0. The paper does not specify this case.

    ``flip`` mirrors one curve in p: "positive" (EntDecrease) gives A_pos = (p/(1-p))^beta_pos,
    singular at p = 1; "negative" (EntIncrease) gives A_neg = -((1-p)/p)^beta_neg, singular at
    p = 0. At the singularity ``flip_boundary`` decides: "clamp" takes the value at p = 1 - 1/G (or
    1/G), "zero" gives 0. A constant curve (beta = 0) has no singularity.

    Success is reward >= ``success_threshold``; without a threshold rewards must be 0 or 1.

    Raises:
        FieldError: a parameter is out of range, or a beta is so large that a weight overflows the
            dtype of the rewards.
        ValueError: rewards are not [groups, G >= 2], not finite, or neither 0 nor 1 while no
            threshold is set.
    """

    beta_pos: NonNegative
    beta_neg: NonNegative
    degenerate_groups: Literal["keep", "zero"] = "keep"
    flip: Literal["none", "positive", "negative"] = "none"
    flip_boundary: Literal["clamp", "zero"] = "clamp"
    success_threshold: float | None = None
    needs_group: ClassVar[bool] = True

    def __call__(self, rewards: Float[Tensor, "groups G"]) -> Float[Tensor, "groups G"]:
        """Return ((1-p)/p)^beta_pos for successes, -(p/(1-p))^beta_neg for failures."""
        rewards = checked(rewards)
        success = successes(rewards, self.success_threshold)
        count = success.sum(-1, keepdim=True)
        # The accuracy p = count / G has only G + 1 values, so the advantages of successes and of
        # failures are tables indexed by the count: no rounded p, no 0 / 0.
        positive = self._table("beta_pos", self.beta_pos, rewards, sign=1)
        negative = self._table("beta_neg", self.beta_neg, rewards, sign=-1)
        return torch.where(success, positive[count], negative[count])

    def _table(
        self, key: str, beta: float, rewards: Tensor, *, sign: int
    ) -> Float[Tensor, "counts"]:
        """The signed weight of a rollout for every success count 0..G, in the dtype of ``rewards``.

        The weight is (part / (G - part))^beta. Unflipped, ``part`` counts the rollouts of the
        other outcome, so that a rarer outcome weighs more; flipped, those of the same outcome.
        """
        size = rewards.shape[-1]
        flipped = self.flip == ("positive" if sign > 0 else "negative")
        rises_with_count = flipped == (sign > 0)
        parts = [count if rises_with_count else size - count for count in range(size + 1)]
        try:
            weights = [self._weight(part, size, beta) for part in parts]
        except OverflowError:
            weights = [float("inf")]
        if max(weights) > torch.finfo(rewards.dtype).max:
            raise FieldError(
                f"{key}={beta}: overflows {rewards.dtype} with groups of {size}; "
                "use a smaller exponent"
            )
        # A weight of 0 stays +0.0 under a negative sign.
        signed = [sign * weight if weight else 0.0 for weight in weights]
        return torch.tensor(signed, dtype=rewards.dtype, device=rewards.device)

    def _weight(self, part: int, size: int, beta: float) -> float:
        """(part / (size - part))^beta.

        part = size is the singular end of a flipped curve; a plain curve is never looked up there.
        """
        if part in (0, size) and self.degenerate_groups == "zero":
            return 0.0
        if beta == 0:
            return 1.0
        if part == size:
            if self.flip_boundary == "zero":
                return 0.0
            part = size - 1
        return float((part / (size - part)) ** beta)


@validated
@dataclass(frozen=True)
class GroupStandardized:
    """GRPO: A_i = (r_i - mean) / (std + eps) within the group.

    Source: GRPO, arXiv 2402.03300. The defaults ddof = 1 (sample std) and eps = 1e-6 are verl's;
    TRL has eps 1e-4, oat 1e-8. ddof = 0, eps = 0 equals BetaFamily(.5, .5); ddof = 1, eps = 0 is
    that times sqrt((G-1)/G). Rewards may be graded.
    At p = 0 and p = 1, and for any group of equal rewards: exactly 0, for any float value and for
    eps = 0 too.

    Raises:
        FieldError: ddof is not 0 or 1, or eps < 0.
        ValueError: rewards are not [groups, G >= 2] or not finite.
    """

    ddof: DegreesOfFreedom = 1
    eps: NonNegative = 1e-6
    needs_group: ClassVar[bool] = True

    def __call__(self, rewards: Float[Tensor, "groups G"]) -> Float[Tensor, "groups G"]:
        rewards = checked(rewards)
        size = rewards.shape[-1]
        difference = centered(rewards)
        binary = ((rewards == 0) | (rewards == 1)).all(-1, keepdim=True)
        count = (rewards == 1).sum(-1, keepdim=True)
        # Integers up to the only division: the std of binary rewards carries no summation error.
        binary_squares = (count * (size - count)).to(rewards.dtype) / size
        graded_squares = difference.square().sum(-1, keepdim=True)
        squares = torch.where(binary, binary_squares, graded_squares)
        std = (squares / (size - self.ddof)).sqrt()
        return torch.where(std > 0, difference / (std + self.eps), 0.0)


@dataclass(frozen=True)
class MeanCentered:
    """Dr.GRPO: A_i = r_i - mean within the group; on binary rewards 1-p and -p.

    Source: Dr.GRPO, arXiv 2503.20783, which drops the std (and the length) from GRPO's
    normalisation. Rewards may be graded.
    At p = 0 and p = 1, and for any group of equal rewards: exactly 0.

    Raises:
        ValueError: rewards are not [groups, G >= 2] or not finite.
    """

    needs_group: ClassVar[bool] = True

    def __call__(self, rewards: Float[Tensor, "groups G"]) -> Float[Tensor, "groups G"]:
        return centered(checked(rewards))


def successes(
    rewards: Float[Tensor, "groups G"], threshold: float | None = None
) -> Bool[Tensor, "groups G"]:
    """A mask of the successful rollouts: reward >= ``threshold``, or reward 1 without a threshold.

    Raises ValueError for a graded reward without a threshold.
    """
    if threshold is not None:
        return rewards >= threshold
    graded = (rewards != 0) & (rewards != 1)
    if graded.any():
        raise ValueError(
            f"reward {rewards[graded][0].item():g} is neither 0 nor 1: "
            "set success_threshold to say what a success is"
        )
    return rewards == 1


def checked(rewards: Tensor, smallest_group: int = 2) -> Float[Tensor, "groups G"]:
    """The rewards as floats.

    Raises ValueError unless they are [groups, G >= smallest_group] and finite.
    """
    if rewards.ndim != 2:
        raise ValueError(f"rewards have shape {list(rewards.shape)}: must be [groups, G]")
    if rewards.shape[1] < smallest_group:
        raise ValueError(
            f"rollout.group_size={rewards.shape[1]}: "
            "a group estimator needs at least 2 rollouts of each prompt"
        )
    if not rewards.isfinite().all():
        raise ValueError("a reward is nan or infinite: every completion needs a finite reward")
    return rewards if rewards.is_floating_point() else rewards.to(torch.get_default_dtype())


def centered(rewards: Float[Tensor, "groups G"]) -> Float[Tensor, "groups G"]:
    """r_i - mean within the group.

    Differences to the first member make a constant group exactly 0: the float mean
    (0.1 + ... + 0.1) / G need not be 0.1.
    """
    size = rewards.shape[-1]
    relative = rewards - rewards[:, :1]
    return (size * relative - relative.sum(-1, keepdim=True)) / size
