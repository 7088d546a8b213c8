"""Advantages that look at the whole mini-batch (of all ranks), not at one group alone."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from jaxtyping import Float, Int
from torch import Tensor

from asym_lightning import checks
from asym_lightning.algorithms.advantages import GroupStandardized, centered, checked, successes
from asym_lightning.algorithms.steering import Observation, Steered


@dataclass(frozen=True)
class Whitened:
    """REINFORCE++: rewards, less their group's mean if ``baseline``, whitened over all completion tokens of the mini-batch:

        A = (x - m) / sqrt(v + eps),    m and v the mean and sample variance of x over tokens: a rollout counts by its length.

    Source: arXiv 2501.03262; eps 1e-8 and the sample variance are verl's. Rewards may be graded. At p = 0 and p = 1: whatever the
    rest of the batch makes of it, less than 0 or more than 0; with ``baseline`` -m / sqrt(v + eps). 0 for a batch of equal x.

    Raises:
        ConfigError: eps < 0.
        ValueError: rewards are not [groups, G], not finite, or G = 1 with baseline.
    """

    baseline: bool = False
    eps: float = 1e-8
    uses_lengths: ClassVar[bool] = True

    @property
    def needs_group(self) -> bool:
        return self.baseline

    def __post_init__(self) -> None:
        checks.number("algo.advantage.eps", self.eps, 0)

    def __call__(self, rewards: Float[Tensor, "groups G"], lengths: Int[Tensor, "groups G"] | None = None) -> Float[Tensor, "groups G"]:
        values = centered(checked(rewards)) if self.baseline else checked(rewards, smallest_group=1)
        weights = torch.ones_like(values) if lengths is None else lengths.to(values.dtype)
        if (values == values.flatten()[0]).all():
            return torch.zeros_like(values)
        total = weights.sum()
        difference = values - (weights * values).sum() / total
        variance = (weights * difference.square()).sum() / (total - 1)
        return difference / (variance + self.eps).sqrt()


@dataclass(frozen=True)
class AGRAE:
    """A-GRAE: GRPO's advantage with a batch-dependent weight between hard and easy prompts, and positives damped early on.

    With w the mean reward of the mini-batch: A = [w / (2 sqrt(p)) + (1-w) / (2 sqrt(1-p))] A_GRPO, then A *= min(1, w / alpha) where
    A > 0. A_GRPO with the population std. 0 at p = 0 and p = 1.

    Source: arXiv 2602.05548 eq. 11 to 13, alpha 1 for mathematics. (The released code differs from the paper.)

    Raises:
        ConfigError: alpha <= 0.
        ValueError: rewards are not [groups, G >= 2], not finite, or neither 0 nor 1.
    """

    alpha: float = 1.0
    needs_group: ClassVar[bool] = True

    def __post_init__(self) -> None:
        checks.number("algo.advantage.alpha", self.alpha, 0, open_low=True)

    def __call__(self, rewards: Float[Tensor, "groups G"]) -> Float[Tensor, "groups G"]:
        rewards = checked(rewards)
        success = successes(rewards)
        size = rewards.shape[1]
        mean = success.sum().to(rewards.dtype) / success.numel()
        p = success.sum(-1, keepdim=True).clamp(1, size - 1).to(rewards.dtype) / size  # at 0 and 1 GRPO's 0 decides
        weight = mean / (2 * p.sqrt()) + (1 - mean) / (2 * (1 - p).sqrt())
        damped = torch.where(success, (mean / self.alpha).clamp(max=1.0), 1.0)
        return GroupStandardized(ddof=0, eps=0)(rewards) * weight * damped


class FADE(Steered):
    """FADE: A_pos = (1-p)^(a-1) (1-p), A_neg = -(1-p)^(a-1) p / delta, both weights adapted to accuracy and entropy:

        a = clip(3 (1 - P) / (2 P), 1, 3) with P the mean reward of the mini-batch,
        delta = clip(1 + H - H*, .3, 1) with H the token-mean entropy and H* half of what it was at the first step.

    Source: arXiv 2607.01490. H is that of the step before (1 at the first): the step's own is known only after its forward pass.
    0 at p = 0 and p = 1.

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
        wrong = (size - count).to(rewards.dtype) / size
        positive, negative = wrong**exponent, -(wrong ** (exponent - 1)) * (count.to(rewards.dtype) / size) / self.delta
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
