"""Advantages that are a function of the group's accuracy p, beside the beta family.

Rewards are 0 or 1 unless a class says otherwise.
"""

from dataclasses import dataclass
from math import comb, sqrt
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from asym_lightning.algorithms.advantages import (
    DegreesOfFreedom,
    GroupStandardized,
    centered,
    checked,
    successes,
)
from asym_lightning.checks import Count, NonNegative, validated
from asym_lightning.types import FieldError


@validated
@dataclass(frozen=True)
class SignedConstant:
    """A = ``positive`` on correct rollouts and -``negative`` on wrong ones, for every p.

    This includes p = 0 and p = 1.

    Source: arXiv 2506.01347: PSR (1, 0) learns from correct rollouts only, NSR (0, 1) from wrong
    ones only, W-REINFORCE (.1, 1) from both. The other rollouts have advantage 0; their tokens
    still count in the aggregation.

    Raises:
        FieldError: a weight < 0, or both 0.
        ValueError: a reward is neither 0 nor 1.
    """

    positive: NonNegative
    negative: NonNegative
    needs_group: ClassVar[bool] = False

    def __post_init__(self) -> None:
        if self.positive == self.negative == 0:
            raise FieldError(
                "positive=0: with negative=0 the policy would not learn; set at least one above 0"
            )

    def __call__(self, rewards: Float[Tensor, "groups G"]) -> Float[Tensor, "groups G"]:
        success = successes(rewards)
        dtype = rewards.dtype if rewards.is_floating_point() else torch.get_default_dtype()
        return torch.where(success, self.positive, -self.negative).to(dtype)


@validated
@dataclass(frozen=True)
class MaxRL:
    """A = (r - p) / (p + eps): (1-p)/p on correct rollouts, -1 on wrong ones; 0 at p = 0 and p = 1.

    Source: MaxRL, arXiv 2602.02710; eps 1e-6 is its code's. For 0 < p it is the beta family's
    (1, 0), which keeps -1 at p = 0.

    Raises:
        FieldError: eps < 0.
        ValueError: rewards are not [groups, G >= 2], not finite, or neither 0 nor 1.
    """

    eps: NonNegative = 1e-6
    needs_group: ClassVar[bool] = True

    def __call__(self, rewards: Float[Tensor, "groups G"]) -> Float[Tensor, "groups G"]:
        rewards = checked(rewards)
        p = successes(rewards).sum(-1, keepdim=True).to(rewards.dtype) / rewards.shape[-1]
        return torch.where(p > 0, centered(rewards) / (p + self.eps), 0.0)


@validated
@dataclass(frozen=True)
class FocalGRPO:
    """F-GRPO: (1-p)^gamma times GRPO's advantage, so that groups already solved weigh less.

    0 at p = 0 and p = 1.

    Source: arXiv 2602.06717; gamma is .5 or 1 there. ``ddof`` and ``eps`` are GRPO's.

    Raises:
        FieldError: gamma < 0, or ddof or eps refused by GRPO.
        ValueError: rewards are not [groups, G >= 2], not finite, or neither 0 nor 1.
    """

    gamma: NonNegative = 0.5
    ddof: DegreesOfFreedom = 1
    eps: NonNegative = 1e-6
    needs_group: ClassVar[bool] = True

    def __call__(self, rewards: Float[Tensor, "groups G"]) -> Float[Tensor, "groups G"]:
        advantages = GroupStandardized(self.ddof, self.eps)(rewards)
        failures = (~successes(rewards)).sum(-1, keepdim=True)
        failure_rate = failures.to(advantages.dtype) / rewards.shape[-1]
        return advantages * failure_rate**self.gamma


@validated
@dataclass(frozen=True)
class PassAtK:
    """Pass@k training: a rollout's share in the reward of the subsets of k rollouts.

    A subset is correct if any of its rollouts is. With N = G, M wrong rollouts,
    R = 1 - C(M,k)/C(N,k) and s = sqrt(R(1-R)):

        A_pos = (1 - R) / (s + eps),    A_neg = (1 - R - C(M-1,k-1)/C(N-1,k-1)) / (s + eps)

    Source: arXiv 2508.10751 (analytical form). 0 at R = 0 (p = 0) and at R = 1 (every subset has a
    correct rollout; this includes p = 1). With k = G every group has R = 0 or 1, so k must be
    smaller.

    Raises:
        FieldError: k < 1, eps < 0, or G <= k.
        ValueError: rewards are not [groups, G >= 2], not finite, or neither 0 nor 1.
    """

    k: Count
    eps: NonNegative = 1e-6
    needs_group: ClassVar[bool] = True

    def __call__(self, rewards: Float[Tensor, "groups G"]) -> Float[Tensor, "groups G"]:
        rewards = checked(rewards)
        size = rewards.shape[-1]
        if size <= self.k:
            raise FieldError(
                f"k={self.k}: must be below the group size of {size}, else no group has a signal"
            )
        success = successes(rewards)
        pairs = [self._pair(wrong, size) for wrong in range(size + 1)]
        table = torch.tensor(pairs, dtype=rewards.dtype, device=rewards.device)
        positive, negative = table[size - success.sum(-1, keepdim=True)].unbind(-1)
        return torch.where(success, positive, negative)

    def _pair(self, wrong: int, size: int) -> tuple[float, float]:
        """A_pos and A_neg of a group with ``wrong`` wrong rollouts."""
        # 1 - R: the share of subsets without a correct rollout.
        failed = comb(wrong, self.k) / comb(size, self.k)
        if failed in (0.0, 1.0):
            return 0.0, 0.0
        # The same share among the subsets that contain a given wrong rollout.
        failed_with_rollout = comb(wrong - 1, self.k - 1) / comb(size - 1, self.k - 1)
        scale = sqrt(failed * (1 - failed)) + self.eps
        return failed / scale, (failed - failed_with_rollout) / scale
