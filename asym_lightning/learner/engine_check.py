"""A check that the engine sampled from the trainer's policy: both must agree on log-probs.

The mean gap over tokens tells wrong weights from rounding: unlike the largest gap, it does not grow
with the number of tokens. What rounding explains is measured on the trainer alone, by its forward
pass at the run's precision beside one in fp32; a constant error of the engine is no part of it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import inf, isfinite, sqrt
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from asym_lightning.learner.batch import PackedBatch
from asym_lightning.runtime.meter import Meter
from asym_lightning.runtime.ranks import reduce_over_ranks
from asym_lightning.types import EngineMismatchError

# fp32: a mean gap (nats) that rounding does not reach.
FP32_BOUND = 1e-4
# Lower precision: the bound over the trainer's own mean rounding error. An engine that is in order
# is at 1.4 to 1.6 of it (SmolLM2 in bf16, temperatures .7 and 1).
ROUNDING_FACTOR = 3.0
# Smallest bound in lower precision: a policy that is almost sure of its tokens hardly rounds.
LEAST_BOUND = 0.02
# Iterations between measurements of the trainer's rounding.
ROUNDING_EVERY = 10
# Bound where the trainer's weights are in bf16, so that it cannot compute in fp32.
UNMEASURED_BOUND = 0.15
# A mean counts from this many standard errors above the bound: few tokens may have a rare one.
STANDARD_ERRORS = 3.0


def bound_of(rounding: float) -> float:
    """The largest mean gap that rounding explains, from the trainer's own mean rounding (nats)."""
    return max(LEAST_BOUND, ROUNDING_FACTOR * rounding)


def mean_rounding(logp: Float[Tensor, "n"], exact: Float[Tensor, "n"]) -> float:
    """The mean |difference| of the trainer's log-probs from those in fp32 (nats). Collective."""
    gap = (logp - exact).abs().double()
    total, tokens = reduce_over_ranks(
        torch.stack([gap.sum(), gap.new_tensor(gap.numel())]), "sum"
    ).tolist()
    return total / max(1.0, tokens)


@dataclass(frozen=True)
class Gap:
    """The gap between trainer and engine over the sampled tokens of all ranks (nats).

    mean, deviation: of |trainer - engine|.
    kl: estimate of the KL divergence of the trainer's policy from the engine's, the mean of
        exp(d) - 1 - d with d = trainer - engine (k3).
    """

    tokens: int
    mean: float
    deviation: float
    kl: float
    largest: float

    @property
    def least_mean(self) -> float:
        """A lower end for the mean: the mean less some standard errors."""
        return self.mean - STANDARD_ERRORS * self.deviation / sqrt(max(1, self.tokens))


def measure_gap(logp: Float[Tensor, "n"], engine_logp: Float[Tensor, "n"]) -> Gap:
    """Measure the gap over the tokens of all ranks. Collective."""
    d = (logp - engine_logp).double()
    size = d.abs()
    k3 = d.exp() - 1 - d
    sums = torch.stack([torch.ones_like(d), size, size**2, k3]).sum(-1)
    tokens, total, squares, kl = reduce_over_ranks(sums, "sum").tolist()
    top = size.amax() if size.numel() else size.new_zeros(())
    largest = float(reduce_over_ranks(top, "max"))
    count = max(1.0, tokens)
    mean = total / count
    deviation = sqrt(max(0.0, squares / count - mean**2)) if isfinite(squares) else squares
    return Gap(int(tokens), mean, deviation, kl=kl / count, largest=largest)


def compare_with_engine(
    policy: Any, compared: Sequence[tuple[PackedBatch, Tensor]], measure: bool
) -> None:
    """Compare a policy with the engine at the weights that the engine sampled from. Collective.

    Args:
        policy: a :class:`~asym_lightning.learner.policy.PolicyModule`.
        compared: micro-batches with the policy's log-probs of their tokens.
        measure: also measure the trainer's own rounding, where it is due.

    Raises:
        EngineMismatchError: as of :func:`check_engine`.
    """
    if not compared:
        return
    due = measure and policy.trainer.current_epoch % ROUNDING_EVERY == 0
    if due or policy.gap_bound is None:
        policy.gap_bound = bound_of_rounding(policy, *compared[0])
    check_engine(
        torch.cat([logp for _, logp in compared]),
        torch.cat([micro.engine_logp.to(logp.device) for micro, logp in compared]),
        torch.cat([micro.rows.to(logp.device) for micro, logp in compared]),
        bound=inf if policy.logprob_gap_limit == inf else policy.gap_bound,
        limit=policy.logprob_gap_limit,
        updated=policy.global_step > 0,
        meter=policy.meter,
    )


@torch.no_grad()
def bound_of_rounding(
    policy: Any, batch: PackedBatch, logp: Tensor, temperature: float | None = None
) -> float:
    """Return the mean gap (nats) that rounding explains at the run's precision. Collective."""
    if str(policy.trainer.precision).startswith("32"):
        return FP32_BOUND
    kept_in_bf16 = any(p.dtype != torch.float32 for p in policy.model.parameters())
    if kept_in_bf16 or getattr(policy.trainer.strategy, "param_dtype", None):
        return UNMEASURED_BOUND
    with torch.autocast(policy.device.type, enabled=False):
        exact = policy.score(batch.to(policy.device), temperature=temperature).logp
    return bound_of(mean_rounding(logp, exact))


def check_engine(
    logp: Float[Tensor, "n"],
    engine_logp: Float[Tensor, "n"],
    rows: Int[Tensor, "n"],
    *,
    bound: float,
    limit: float | None,
    updated: bool,
    meter: Meter,
) -> None:
    """Record the gap between engine and trainer, and refuse one that rounding cannot explain.

    Args:
        logp: the trainer's log-probs of this rank's sampled tokens (nats).
        engine_logp: the engine's, as sampled.
        rows: the rollout of each token.
        bound: largest mean gap that rounding explains (nats).
        limit: largest gap of a single token; None: any.
        updated: the policy has been updated since the engine was built.
        meter: gets ``engine/logprob_gap_mean``, ``_max`` and ``engine/kl``.

    Raises:
        EngineMismatchError: the mean gap is above ``bound``, or a gap above ``limit``, or not a
            number.
    """
    gap = measure_gap(logp, engine_logp)
    meter.mean("engine/logprob_gap_mean", (logp - engine_logp).abs().sum(), logp.numel())
    meter.maximum("engine/logprob_gap_max", (logp - engine_logp).abs())
    meter.mean("engine/kl", gap.kl, 1)
    # Negated, so that nan is refused too.
    if not gap.least_mean <= bound:
        reason = f"mean {gap.mean:.3g} nats, and rounding explains {bound:.3g}"
    elif limit is not None and not gap.largest <= limit:
        reason = f"largest {gap.largest:.3g} nats (policy.logprob_gap_limit={limit:g})"
    else:
        return
    cause = likely_cause(logp, engine_logp, rows, updated=updated)
    raise EngineMismatchError(
        f"engine and trainer disagree on the log-probs of {gap.tokens} sampled tokens: {reason}; "
        f"largest {gap.largest:.3g}, KL {gap.kl:.3g}. {cause}"
    )


def likely_cause(
    logp: Float[Tensor, "n"],
    engine_logp: Float[Tensor, "n"],
    rows: Int[Tensor, "n"],
    updated: bool,
) -> str:
    """Say which cause the numbers look like."""
    trainer, engine = logp.double(), engine_logp.double()
    if not bool(torch.isfinite(trainer).all()):
        return "The trainer's log-probs are not numbers: the policy's weights are broken"
    if not bool(torch.isfinite(engine).all()):
        return "The engine's log-probs are not numbers: its weights are broken"
    related = _correlation(trainer, engine)
    slope = related * float(trainer.std() / engine.std().clamp(min=1e-12))
    if related < 0.5:
        return (
            "The two are hardly related: log-probs of other tokens (a shift by one), or an engine "
            "with another model's weights"
        )
    if _correlation((trainer - engine).abs(), positions(rows).double()) > 0.3:
        return (
            "The gap grows along a completion: positions (rope) or the engine's key-value cache "
            "are wrong"
        )
    if related > 0.97 and abs(slope - 1) > 0.05:
        return (
            f"The trainer's are {slope:.2f} times the engine's throughout: another temperature, or "
            "a scale or cap of the logits that one of the two leaves out"
        )
    if not updated:
        return (
            "The weights are still those of the model's folder, so that engine and trainer compute "
            "different things: a precision other than trainer.precision, dropout, experts, or an "
            "operation that one of the two leaves out"
        )
    return (
        "The engine's weights, or those of some layers, are stale: older than the trainer's, or "
        "changed on their way"
    )


def positions(rows: Int[Tensor, "n"]) -> Int[Tensor, "n"]:
    """The number of each token within its completion, whose tokens stand side by side."""
    index = torch.arange(rows.numel(), device=rows.device)
    begins = torch.ones_like(rows, dtype=torch.bool)
    begins[1:] = rows[1:] != rows[:-1]
    return index - torch.where(begins, index, 0).cummax(0).values


def _correlation(x: Float[Tensor, "n"], y: Float[Tensor, "n"]) -> float:
    """The correlation of two samples; 1 if one of them does not vary."""
    x, y = x - x.mean(), y - y.mean()
    scale = x.norm() * y.norm()
    return float((x @ y) / scale) if scale > 0 else 1.0
