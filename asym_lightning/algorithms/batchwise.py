"""Advantages that use the rewards of the full mini-batch (of all ranks), not of one group alone."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from jaxtyping import Float, Int
from torch import Tensor

from asym_lightning.algorithms.advantages import GroupStandardized, centered, checked, successes
from asym_lightning.algorithms.steering import Observation, Steered
from asym_lightning.checks import NonNegative, Positive, validated


@validated
@dataclass(frozen=True)
class Whitened:
    """REINFORCE++: rewards whitened over all completion tokens of the mini-batch.

        A = (x - m) / sqrt(v + eps)

    x is the reward, minus its group's mean if ``baseline``; m and v are the mean and sample
    variance of x over tokens, so a rollout counts by its length.

    Source: arXiv 2501.03262; eps 1e-8 and the sample variance are verl's. Rewards may be graded.
    At p = 0 and p = 1: depends on the rest of the batch and may have either sign; with ``baseline``
    it is -m / sqrt(v + eps). 0 for a batch of equal x.

    Raises:
        FieldError: eps < 0.
        ValueError: rewards are not [groups, G], not finite, or G = 1 with baseline.
    """

    baseline: bool = False
    eps: NonNegative = 1e-8
    uses_lengths: ClassVar[bool] = True

    @property
    def needs_group(self) -> bool:
        return self.baseline

    def __call__(
        self, rewards: Float[Tensor, "groups G"], lengths: Int[Tensor, "groups G"] | None = None
    ) -> Float[Tensor, "groups G"]:
        values = centered(checked(rewards)) if self.baseline else checked(rewards, smallest_group=1)
        weights = torch.ones_like(values) if lengths is None else lengths.to(values.dtype)
        if (values == values.flatten()[0]).all():
            return torch.zeros_like(values)
        total = weights.sum()
        difference = values - (weights * values).sum() / total
        variance = (weights * difference.square()).sum() / (total - 1)
        return difference / (variance + self.eps).sqrt()


@validated
@dataclass(frozen=True)
class AGRAE:
    """A-GRAE: GRPO's advantage with a batch-dependent weight between hard and easy prompts.

    With w the mean reward of the mini-batch and A_GRPO with the population std:

        A = [w / (2 sqrt(p)) + (1-w) / (2 sqrt(1-p))] A_GRPO,
        then A *= min(1, w / alpha) where A > 0.

    The last factor damps positive advantages early in training. 0 at p = 0 and p = 1.

    Source: arXiv 2602.05548 eq. 11 to 13, alpha 1 for mathematics. (The released code differs from
    the paper.)

    Raises:
        FieldError: alpha <= 0.
        ValueError: rewards are not [groups, G >= 2], not finite, or neither 0 nor 1.
    """

    alpha: Positive = 1.0
    needs_group: ClassVar[bool] = True

    def __call__(self, rewards: Float[Tensor, "groups G"]) -> Float[Tensor, "groups G"]:
        rewards = checked(rewards)
        success = successes(rewards)
        size = rewards.shape[1]
        mean = success.sum().to(rewards.dtype) / success.numel()
        # The clamp keeps the weight finite at p = 0 and p = 1, where GRPO's advantage is 0.
        p = success.sum(-1, keepdim=True).clamp(1, size - 1).to(rewards.dtype) / size
        weight = mean / (2 * p.sqrt()) + (1 - mean) / (2 * (1 - p).sqrt())
        damping = torch.where(success, (mean / self.alpha).clamp(max=1.0), 1.0)
        return GroupStandardized(ddof=0, eps=0)(rewards) * weight * damping


class FADE(Steered):
    """FADE: weights of both signs that adapt to the accuracy and entropy of the mini-batch.

        A_pos = (1-p)^(a-1) (1-p),    A_neg = -(1-p)^(a-1) p / delta
        a = clip(3 (1 - P) / (2 P), 1, 3)
        delta = clip(1 + H - H*, .3, 1)

    P is the mean reward of the mini-batch, H the token-mean entropy and H* half of the first step's
    H. H is that of the previous step (delta is 1 at the first step), because the current one is
    known only after the forward pass. 0 at p = 0 and p = 1.

    Source: arXiv 2607.01490.

    Raises:
        ValueError: rewards are not [groups, G >= 2], not finite, or neither 0 nor 1.
    """

    needs_group: ClassVar[bool] = True
    observes: ClassVar[bool] = True

    def __init__(self) -> None:
        self.target: float | None = None
        self.delta = 1.0

    def __call__(self, rewards: Float[Tensor, "groups G"]) -> Float[Tensor, "groups G"]:
        rewards = checked(rewards)
        success = successes(rewards)
        count, size = success.sum(-1, keepdim=True), rewards.shape[1]
        accuracy = float(success.sum()) / success.numel()
        exponent = min(max(1.5 * (1 - accuracy) / accuracy, 1.0), 3.0) if accuracy else 3.0
        p = count.to(rewards.dtype) / size
        failure_rate = (size - count).to(rewards.dtype) / size
        positive = failure_rate**exponent
        negative = -(failure_rate ** (exponent - 1)) * p / self.delta
        return torch.where(success, positive, negative)

    def observe(self, seen: Observation) -> None:
        self.target = seen.entropy / 2 if self.target is None else self.target
        self.delta = min(max(1 + seen.entropy - self.target, 0.3), 1.0)

    def metrics(self) -> dict[str, float]:
        return {"steer/fade_delta": self.delta}

    def state_dict(self) -> dict[str, Any]:
        return {"target": self.target, "delta": self.delta}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.target, self.delta = state["target"], state["delta"]
