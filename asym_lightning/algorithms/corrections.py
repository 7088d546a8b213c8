"""Corrections for an engine that samples from another policy than the trainer's: a weight on every token's policy loss.

An engine in another precision, with other kernels or with older weights does not sample from the policy whose gradient is taken.
The importance weight pi / mu of a token (pi the trainer's, mu the engine's probability of it) repairs that in expectation, and bounds
on it keep single tokens from ruling the step. The counts of the aggregation stay: a dropped token still counts in the denominator.
"""

from dataclasses import dataclass, field
from typing import ClassVar, Protocol

import torch
from jaxtyping import Float, Int
from torch import Tensor

from asym_lightning import checks

LEVELS = ("token", "sequence")


@dataclass
class Weights:
    """``per_token`` [n] multiplies the policy loss; ``diagnostics`` are [n] each and averaged over tokens by who logs them."""

    per_token: Float[Tensor, "n"]
    diagnostics: dict[str, Float[Tensor, "n"]] = field(default_factory=dict)


class Correction(Protocol):
    """What a correction is. ``drops`` says whether it leaves tokens out, which has a meaning beside a ratio that holds pi / mu already.
    All tokens of a rollout are there (``rows``), and no argument carries a gradient."""

    drops: ClassVar[bool]

    def __call__(self, logp: Float[Tensor, "n"], engine_logp: Float[Tensor, "n"], rows: Int[Tensor, "n"]) -> Weights: ...


def importance(
    logp: Float[Tensor, "n"], engine_logp: Float[Tensor, "n"], rows: Int[Tensor, "n"], level: str = "token"
) -> Float[Tensor, "n"]:
    """pi / mu of each token, or with ``level="sequence"`` the product over its rollout; the log is limited to +-20."""
    log_weight = (logp - engine_logp).detach()
    if level == "sequence" and rows.numel():
        log_weight = log_weight.new_zeros(int(rows.max()) + 1).index_add(0, rows, log_weight)[rows]
    return log_weight.clamp(-20.0, 20.0).exp()


@dataclass(frozen=True)
class NoCorrection:
    """The policy loss as it is."""

    drops: ClassVar[bool] = False

    def __call__(self, logp: Float[Tensor, "n"], engine_logp: Float[Tensor, "n"], rows: Int[Tensor, "n"]) -> Weights:
        return Weights(torch.ones_like(logp))


@dataclass(frozen=True)
class Truncate:
    """w = min(pi / mu, cap): no token is dropped, none weighs more than ``cap``.

    ``level``: ``token``, or ``sequence`` with the product of pi / mu over a rollout on each of its tokens.
    Source: truncated importance sampling (TIS), Yao et al. 2025, "Your Efficient RL Framework Secretly Brings You Off-Policy RL
    Training", cap 2; the sequence form with cap 3 as in TRL. Where engine and trainer agree w = 1.

    Diagnostics: ``correction/weight`` before the bound, ``correction/weight_used`` after it, ``correction/truncated``, 1 on tokens
    that the bound cuts.

    Raises:
        ConfigError: cap < 1 (it would cut tokens on which engine and trainer agree), or an unknown level.
    """

    cap: float = 2.0
    level: str = "token"
    drops: ClassVar[bool] = False

    def __post_init__(self) -> None:
        checks.number("algo.correction.cap", self.cap, 1)
        checks.one_of("algo.correction.level", self.level, LEVELS)

    def __call__(self, logp: Float[Tensor, "n"], engine_logp: Float[Tensor, "n"], rows: Int[Tensor, "n"]) -> Weights:
        weight = importance(logp, engine_logp, rows, self.level)
        used = weight.clamp(max=self.cap)
        cut = (weight > self.cap).to(weight.dtype)
        return Weights(used, {"correction/weight": weight, "correction/weight_used": used, "correction/truncated": cut})


@dataclass(frozen=True)
class Mask:
    """w = pi / mu where low <= pi / mu <= high, else 0: what lies outside is dropped.

    ``level``: ``token``, or ``sequence`` with the product of pi / mu over a rollout, so that rollouts are kept or dropped whole.
    Source: IcePop (Ring-1T, arXiv 2510.18855) by token with .5 and 5; masked importance sampling (MIS), Liu et al. 2025, "When Speed
    Kills Stability", by sequence without a lower bound, high 3 as in TRL. Where engine and trainer agree w = 1.

    Diagnostics: ``correction/weight`` before the bounds, ``correction/weight_used`` after them, ``correction/dropped``, 1 on tokens
    that are left out.

    Raises:
        ConfigError: bounds that leave out 1 (they would drop tokens on which engine and trainer agree), or an unknown level.
    """

    low: float = 0.5
    high: float = 5.0
    level: str = "token"
    drops: ClassVar[bool] = True

    def __post_init__(self) -> None:
        checks.number("algo.correction.low", self.low, 0, 1)
        checks.number("algo.correction.high", self.high, 1)
        checks.one_of("algo.correction.level", self.level, LEVELS)

    def __call__(self, logp: Float[Tensor, "n"], engine_logp: Float[Tensor, "n"], rows: Int[Tensor, "n"]) -> Weights:
        weight = importance(logp, engine_logp, rows, self.level)
        outside = (weight < self.low) | (weight > self.high)
        used = weight.masked_fill(outside, 0.0)
        dropped = outside.to(weight.dtype)
        return Weights(used, {"correction/weight": weight, "correction/weight_used": used, "correction/dropped": dropped})
