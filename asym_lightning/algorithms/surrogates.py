"""Policy losses beside PPO's clip."""

from dataclasses import dataclass
from typing import Annotated, ClassVar

import torch
from pydantic import Field
from torch import Tensor

from asym_lightning.algorithms.losses import LossInputs, LossOutput
from asym_lightning.checks import NonNegative, Positive, Share, validated


@dataclass(frozen=True)
class Reinforce:
    """L = -A logp: no ratio, no clip. Off-policy it is biased; on-policy its gradient is PPO's.

    Source: Williams 1992. A = 0 (most methods at p = 0 and p = 1) gives 0.
    """

    uses_ratio: ClassVar[bool] = False

    def __call__(self, inputs: LossInputs) -> LossOutput:
        return LossOutput(-inputs.advantages * inputs.logp)


@dataclass(frozen=True)
class Ratio:
    """L = -A rho: the surrogate without a clip.

    Source: arXiv 1707.06347 eq. 6; KL-Cov's policy loss. A = 0 gives 0.
    """

    def __call__(self, inputs: LossInputs) -> LossOutput:
        return LossOutput(-inputs.advantages * inputs.ratio)


@validated
@dataclass(frozen=True)
class CISPO:
    """L = -sg(clip(rho, low, high)) A logp: no token loses its gradient.

    The importance weight is clipped; sg stops its gradient.
    ``low`` and ``high`` bound the ratio itself: verl's eps of .2 is (.8, 1.2), TRL's cap of 5 is
    (0, 5). The two scales share one name; here they are conf/loss/cispo.yaml and cispo_cap.yaml.

    Source: MiniMax-M1, arXiv 2506.13585 eq. 4. A = 0 gives 0. Diagnostics: ``clip/low`` and
    ``clip/high``, 1 where a weight is clipped.

    Raises:
        FieldError: low is not in [0, 1], or high < 1.
    """

    low: Share
    high: Annotated[float, Field(ge=1)]

    def __call__(self, inputs: LossInputs) -> LossOutput:
        ratio = inputs.ratio.detach()
        masks = {"clip/low": ratio < self.low, "clip/high": ratio > self.high}
        per_token = -ratio.clamp(self.low, self.high) * inputs.advantages * inputs.logp
        return LossOutput(per_token, {name: mask.to(ratio.dtype) for name, mask in masks.items()})


@validated
@dataclass(frozen=True)
class SAPO:
    """L = -A (4/tau) sigmoid(tau (rho - 1)): a soft gate in place of the clip.

    Its slope at rho = 1 is that of the plain ratio.

    Source: arXiv 2511.20347; tau 1.0 for A > 0 and 1.05 for the others. A = 0 gives 0.

    Raises:
        FieldError: a tau <= 0.
    """

    tau_pos: Positive = 1.0
    tau_neg: Positive = 1.05

    def __call__(self, inputs: LossInputs) -> LossOutput:
        ratio, advantages = inputs.ratio, inputs.advantages
        tau = torch.where(advantages > 0, self.tau_pos, self.tau_neg).to(ratio.dtype)
        return LossOutput(-advantages * torch.sigmoid(tau * (ratio - 1)) * 4 / tau)


@validated
@dataclass(frozen=True)
class GSPO:
    """The clip on the ratio of a full rollout, s = exp(mean over its tokens of logp - old_logp).

        L = max(-A s, -A clip(s, 1 - clip_low, 1 + clip_high))

    on each of its tokens. A is the mean of the rollout's token advantages. Made for
    aggregation=sequence_mean_token_mean.

    Source: arXiv 2507.18071 eq. 5 to 7; clip 3e-4 and 4e-4. A = 0 gives 0.
    Diagnostics: ``clip/low``, ``clip/high``, 1 on tokens of a clipped rollout.

    Raises:
        FieldError: clip_low outside [0, 1], or clip_high < 0.
    """

    clip_low: Share = 3e-4
    clip_high: NonNegative = 4e-4

    def __call__(self, inputs: LossInputs) -> LossOutput:
        log_ratio = _rollout_mean(inputs.logp - inputs.old_logp.detach(), inputs.rows)
        ratio = log_ratio.clamp(-20.0, 20.0).exp()
        advantages = _rollout_mean(inputs.advantages, inputs.rows)
        low = (advantages < 0) & (ratio < 1 - self.clip_low)
        high = (advantages > 0) & (ratio > 1 + self.clip_high)
        bounded = torch.where(low, 1 - self.clip_low, ratio)
        bounded = torch.where(high, 1 + self.clip_high, bounded)
        diagnostics = {"clip/low": low.to(ratio.dtype), "clip/high": high.to(ratio.dtype)}
        return LossOutput(-advantages * bounded, diagnostics)


def _rollout_mean(values: Tensor, rows: Tensor) -> Tensor:
    """The mean of the values over each token's rollout, per token."""
    if not rows.numel():
        return values
    sums = values.new_zeros(int(rows.max()) + 1).index_add(0, rows, values)
    counts = torch.bincount(rows, minlength=len(sums)).clamp(min=1)
    return (sums / counts)[rows]
