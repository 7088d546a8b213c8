"""Policy losses: one value per completion token. aggregation.py averages them over tokens."""

from dataclasses import dataclass, field
from typing import Annotated, Protocol

import torch
from jaxtyping import Float, Int
from pydantic import Field
from torch import Tensor

from asym_lightning.checks import NonNegative, Share, validated


@dataclass
class LossInputs:
    """The inputs of a policy loss, per completion token.

    ``logp`` carries the gradient. ``old_logp`` belongs to the policy that the batch started from
    (``logp.detach()`` on-policy). ``rows`` holds the rollout index of each token; all tokens of a
    rollout are included.

    Raises:
        ValueError: the four do not have the same shape [n] (they would broadcast silently).
    """

    logp: Float[Tensor, "n"]
    old_logp: Float[Tensor, "n"]
    advantages: Float[Tensor, "n"]
    rows: Int[Tensor, "n"]

    def __post_init__(self) -> None:
        tensors = (self.logp, self.old_logp, self.advantages, self.rows)
        shapes = [tuple(tensor.shape) for tensor in tensors]
        if self.logp.ndim != 1 or len(set(shapes)) != 1:
            raise ValueError(
                f"logp, old_logp, advantages and rows have shapes {shapes}: "
                "all four must have the same shape [n]"
            )

    @property
    def ratio(self) -> Float[Tensor, "n"]:
        """rho = exp(logp - old_logp).

        The exponent is limited to +-20 as in verl, so that no token can overflow.
        """
        return (self.logp - self.old_logp.detach()).clamp(-20.0, 20.0).exp()


@dataclass
class LossOutput:
    """The result of a policy loss.

    ``per_token`` [n] is the loss before the aggregation's weighted sum. The caller logs each of the
    ``diagnostics`` [n] as a mean over tokens.
    """

    per_token: Float[Tensor, "n"]
    diagnostics: dict[str, Float[Tensor, "n"]] = field(default_factory=dict)


class PolicyLoss(Protocol):
    """The interface of a policy loss. A loss without a ratio sets ``uses_ratio = False``."""

    def __call__(self, inputs: LossInputs) -> LossOutput: ...


@validated
@dataclass(frozen=True)
class PPOClip:
    """The clipped surrogate, with rho = exp(logp - old_logp).

        L = max(-A rho, -A clip(rho, 1 - clip_low, 1 + clip_high)),
        and for A < 0 at most -A dual_clip.

    Source: PPO, arXiv 1707.06347 eq. 7; separate bounds ("clip-higher", .28): DAPO,
    arXiv 2503.14476; the dual clip: arXiv 1912.09729 eq. 5, 3.0 in verl, ``None`` switches it off.
    A clipped token has no gradient. On-policy (rho = 1) the gradient is REINFORCE's, -A grad logp.
    log rho is limited to +-20 as in verl, so that no token can overflow.
    At p = 0 and p = 1: follows the advantage; A = 0 gives 0.

    Diagnostics, 1 where the bound is active: ``clip/low`` (A < 0 below 1 - clip_low), ``clip/high``
    (A > 0 above 1 + clip_high), ``clip/dual`` (A < 0 above dual_clip).

    Raises:
        FieldError: clip_low outside [0, 1], clip_high < 0 or dual_clip <= 1.
    """

    clip_low: Share = 0.2
    clip_high: NonNegative = 0.2
    dual_clip: Annotated[float, Field(gt=1)] | None = 3.0

    def __call__(self, inputs: LossInputs) -> LossOutput:
        advantages = inputs.advantages
        ratio = inputs.ratio
        low = (advantages < 0) & (ratio < 1 - self.clip_low)
        high = (advantages > 0) & (ratio > 1 + self.clip_high)
        dual = torch.zeros_like(low)
        bounded = torch.where(low, 1 - self.clip_low, ratio)
        bounded = torch.where(high, 1 + self.clip_high, bounded)
        if self.dual_clip is not None:
            dual = (advantages < 0) & (ratio > self.dual_clip)
            bounded = torch.where(dual, self.dual_clip, bounded)
        masks = {"clip/low": low, "clip/high": high, "clip/dual": dual}
        diagnostics = {name: mask.to(ratio.dtype) for name, mask in masks.items()}
        return LossOutput(-advantages * bounded, diagnostics)
