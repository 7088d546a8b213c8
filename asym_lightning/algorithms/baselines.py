"""Advantages that differ in the baseline subtracted from the reward. Rewards may be graded."""

from dataclasses import dataclass
from math import ceil
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from asym_lightning.algorithms.advantages import centered, checked
from asym_lightning.checks import PositiveShare, validated


@dataclass(frozen=True)
class LeaveOneOut:
    """RLOO: the reward minus the mean of the group's other rollouts, (G r_i - sum r) / (G - 1).

    Source: arXiv 2402.14740 eq. 7. It is Dr.GRPO's advantage times G/(G-1). 0 for a group of equal
    rewards (p = 0 and p = 1).

    Raises:
        ValueError: rewards are not [groups, G >= 2] or not finite.
    """

    needs_group: ClassVar[bool] = True

    def __call__(self, rewards: Float[Tensor, "groups G"]) -> Float[Tensor, "groups G"]:
        size = rewards.shape[-1]
        return centered(checked(rewards)) * (size / (size - 1))


@validated
@dataclass(frozen=True)
class QuantileBaseline:
    """QAE: A = (r - b) / std with b the ``quantile`` of the group's rewards.

    b = inf{x : F(x) >= K} with K the quantile; std is the population std. On binary rewards a group
    with p <= 1-K learns from correct rollouts only, A_pos = 1/sqrt(p(1-p)); a group with a larger p
    learns from wrong rollouts only. 0 for a group of equal rewards (p = 0 and p = 1). An
    interpolating quantile gives another result at p = 5/8, G = 8, K = .4.

    Source: arXiv 2509.22611; K = .4, or .6 where entropy collapses early.

    Raises:
        FieldError: quantile is not in (0, 1].
        ValueError: rewards are not [groups, G >= 2] or not finite.
    """

    quantile: PositiveShare = 0.4
    needs_group: ClassVar[bool] = True

    def __call__(self, rewards: Float[Tensor, "groups G"]) -> Float[Tensor, "groups G"]:
        rewards = checked(rewards)
        size = rewards.shape[-1]
        # 1e-9 undoes float rounding where quantile * size is a whole number, as .4 * 5.
        rank = ceil(self.quantile * size - 1e-9) - 1
        baseline = rewards.sort(-1).values[:, rank, None]
        std = centered(rewards).square().mean(-1, keepdim=True).sqrt()
        return torch.where(std > 0, (rewards - baseline) / std, 0.0)
