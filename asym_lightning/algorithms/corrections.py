"""Corrections for an engine that samples from a policy other than the trainer's.

An engine in another precision, with other kernels or with older weights does not sample from the
policy whose gradient is taken. The importance weight pi / mu of a token (pi the trainer's, mu the
engine's probability of it) corrects this in expectation. Bounds on the weight keep single tokens
from dominating the step. A correction is a weight on every token's policy loss; the counts of the
aggregation stay, so a dropped token still counts in the denominator.
"""

from dataclasses import dataclass, field
from typing import Annotated, ClassVar, Literal, Protocol

import torch
from jaxtyping import Float, Int
from pydantic import Field
from torch import Tensor

from asym_lightning.checks import Share, validated

Level = Literal["token", "sequence"]


@dataclass
class Weights:
    """The result of a correction.

    ``per_token`` [n] multiplies the policy loss. The caller logs each of the ``diagnostics`` [n] as
    a mean over tokens.
    """

    per_token: Float[Tensor, "n"]
    diagnostics: dict[str, Float[Tensor, "n"]] = field(default_factory=dict)


class Correction(Protocol):
    """The interface of a correction.

    ``drops`` is True if it leaves tokens out, which has an effect even where the ratio of the loss
    already holds pi / mu. ``rows`` holds the rollout index of each token; all tokens of a rollout
    are included, and no argument carries a gradient.
    """

    drops: ClassVar[bool]

    def __call__(
        self, logp: Float[Tensor, "n"], engine_logp: Float[Tensor, "n"], rows: Int[Tensor, "n"]
    ) -> Weights: ...


def importance(
    logp: Float[Tensor, "n"],
    engine_logp: Float[Tensor, "n"],
    rows: Int[Tensor, "n"],
    level: str = "token",
) -> Float[Tensor, "n"]:
    """pi / mu of each token, or with ``level="sequence"`` the product over its rollout.

    The log is limited to +-20.
    """
    log_weight = (logp - engine_logp).detach()
    if level == "sequence" and rows.numel():
        log_weight = log_weight.new_zeros(int(rows.max()) + 1).index_add(0, rows, log_weight)[rows]
    return log_weight.clamp(-20.0, 20.0).exp()


@dataclass(frozen=True)
class NoCorrection:
    """The policy loss without a correction: w = 1."""

    drops: ClassVar[bool] = False

    def __call__(
        self, logp: Float[Tensor, "n"], engine_logp: Float[Tensor, "n"], rows: Int[Tensor, "n"]
    ) -> Weights:
        return Weights(torch.ones_like(logp))


@validated
@dataclass(frozen=True)
class Truncate:
    """w = min(pi / mu, cap): no token is dropped, none weighs more than ``cap``.

    ``level``: ``token``, or ``sequence`` with the product of pi / mu over a rollout on each of its
    tokens.
    Source: truncated importance sampling (TIS), Yao et al. 2025, "Your Efficient RL Framework
    Secretly Brings You Off-Policy RL Training", cap 2; the sequence form with cap 3 as in TRL.
    Where engine and trainer agree w = 1.

    Diagnostics: ``correction/weight`` before the bound, ``correction/weight_used`` after it,
    ``correction/truncated``, 1 on tokens that the bound cuts.

    Raises:
        FieldError: cap < 1 (it would cut tokens on which engine and trainer agree), or an unknown
            level.
    """

    cap: Annotated[float, Field(ge=1)] = 2.0
    level: Level = "token"
    drops: ClassVar[bool] = False

    def __call__(
        self, logp: Float[Tensor, "n"], engine_logp: Float[Tensor, "n"], rows: Int[Tensor, "n"]
    ) -> Weights:
        weight = importance(logp, engine_logp, rows, level=self.level)
        used = weight.clamp(max=self.cap)
        diagnostics = {
            "correction/weight": weight,
            "correction/weight_used": used,
            "correction/truncated": (weight > self.cap).to(weight.dtype),
        }
        return Weights(used, diagnostics)


@validated
@dataclass(frozen=True)
class Mask:
    """w = pi / mu where low <= pi / mu <= high, else 0: tokens outside the bounds are dropped.

    ``level``: ``token``, or ``sequence`` with the product of pi / mu over a rollout, so that
    complete rollouts are kept or dropped.
    Source: IcePop (Ring-1T, arXiv 2510.18855) by token with .5 and 5; masked importance sampling
    (MIS), Liu et al. 2025, "When Speed Kills Stability", by sequence without a lower bound, high 3
    as in TRL. Where engine and trainer agree w = 1.

    Diagnostics: ``correction/weight`` before the bounds, ``correction/weight_used`` after them,
    ``correction/dropped``, 1 on dropped tokens.

    Raises:
        FieldError: bounds that exclude 1 (they would drop tokens on which engine and trainer
            agree), or an unknown level.
    """

    low: Share = 0.5
    high: Annotated[float, Field(ge=1)] = 5.0
    level: Level = "token"
    drops: ClassVar[bool] = True

    def __call__(
        self, logp: Float[Tensor, "n"], engine_logp: Float[Tensor, "n"], rows: Int[Tensor, "n"]
    ) -> Weights:
        weight = importance(logp, engine_logp, rows, level=self.level)
        outside = (weight < self.low) | (weight > self.high)
        used = weight.masked_fill(outside, 0.0)
        diagnostics = {
            "correction/weight": weight,
            "correction/weight_used": used,
            "correction/dropped": outside.to(weight.dtype),
        }
        return Weights(used, diagnostics)
