"""The loss of a micro-batch: its tokens, the policy loss, and the terms that modulations add."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from asym_lightning.algorithms import Algorithm, LossInputs, Tokens
from asym_lightning.algorithms.tokens import Scores
from asym_lightning.learner.backward_plan import BackwardPlan, PlannedMicroBatch
from asym_lightning.learner.batch import MiniBatch, PackedBatch, StepRecord
from asym_lightning.runtime.meter import Meter


class MicroBatchLoss(NamedTuple):
    """The loss of a micro-batch in parts, and diagnostics of its tokens.

    The losses of all micro-batches of all ranks sum up to the loss of the mini-batch. ``policy``
    and ``modulation`` are the summands to show, ``total`` is the loss to differentiate.
    """

    policy: Float[Tensor, ""]
    modulation: Float[Tensor, ""]
    total: Float[Tensor, ""]
    diagnostics: dict[str, Float[Tensor, "n"]]


def loss_tokens(
    algorithm: Algorithm,
    item: PlannedMicroBatch,
    batch: MiniBatch,
    *,
    advantages: Float[Tensor, "rollouts"],
    scores: Scores,
) -> Tokens:
    """Return the completion tokens of a micro-batch as losses and modulations read them.

    Before the first update there may be no old log-probs: then they are those of ``scores``.
    """
    old_logp = scores.logp.detach() if item.prior.old is None else item.prior.old
    rows = item.micro.rows
    weights = algorithm.aggregation.weights(
        batch.lengths[rows], batch.token_count, batch.rollout_count
    )
    return Tokens(
        logp=scores.logp,
        old_logp=old_logp,
        entropy=scores.entropy,
        advantages=advantages[rows].to(scores.logp.dtype),
        rows=rows,
        weights=weights,
        nucleus_entropy=scores.nucleus_entropy,
        reference_logp=item.prior.reference,
    )


def micro_batch_loss(
    algorithm: Algorithm,
    tokens: Tokens,
    plans: Sequence[Tensor | None],
    *,
    engine_logp: Float[Tensor, "n"],
    old_is_engine: bool,
) -> MicroBatchLoss:
    """Return the loss of a micro-batch's tokens; shape ``tokens.advantages`` by every modulation.

    Args:
        tokens: their ``advantages`` are the shaped ones afterwards.
        plans: the plan of each modulation for these tokens, None for one without ``prepare``.
        engine_logp: log-probs that the engine sampled the tokens with.
        old_is_engine: the old log-probs are the engine's.
    """
    terms = []
    for modulation, plan in zip(algorithm.modulation, plans, strict=True):
        tokens.plan = plan
        tokens.advantages = modulation.shape_advantages(tokens.detached())
        terms.append(modulation.loss_term(tokens))
    inputs = LossInputs(
        logp=tokens.logp,
        old_logp=tokens.old_logp,
        advantages=tokens.advantages,
        rows=tokens.rows,
    )
    output = algorithm.policy_loss(inputs, engine_logp, old_is_engine)
    policy_loss = (output.per_token * tokens.weights).sum()
    modulation_loss = policy_loss.new_zeros(())
    for term in terms:
        if term is not None:
            modulation_loss = modulation_loss + (term * tokens.weights).sum()
    # Without tokens the loss is 0, with a graph: the backward pass takes part in the reduction.
    zero_with_graph = tokens.logp.sum() * 0 if not tokens.logp.numel() else 0.0
    return MicroBatchLoss(
        policy=policy_loss,
        modulation=modulation_loss,
        total=policy_loss + modulation_loss + zero_with_graph,
        diagnostics=output.diagnostics,
    )


def record_loss(
    loss: MicroBatchLoss, tokens: Tokens, plan: BackwardPlan, *, meter: Meter, shards: int
) -> None:
    """Add the loss and the diagnostics of a micro-batch's ``tokens`` to ``meter``.

    Args:
        shards: the number of parts that the rollouts of the mini-batch are divided into over ranks.
    """
    # The micro-batches of all shards have weight 1 together.
    weight = 1 / (len(plan.micro_batches) * shards)
    meter.mean("loss/policy", loss.policy, weight)
    meter.mean("loss/modulation", loss.modulation, weight)
    token_weights = plan.rollout_weights[tokens.rows]
    for name, values in loss.diagnostics.items():
        meter.mean(name, (values * token_weights).sum(), token_weights.sum())


def resampled_loss(
    algorithm: Algorithm, logp: Float[Tensor, "n"], micro: PackedBatch, batch: MiniBatch
) -> Float[Tensor, ""]:
    """Return the REINFORCE loss of correct rollouts sampled at another temperature.

    Args:
        logp: of the tokens of ``micro``, with gradient.
        batch: the mini-batch of re-sampled rollouts that ``micro`` is from.
    """
    resample = algorithm.rules.resample
    assert resample is not None
    weights = algorithm.aggregation.weights(
        batch.lengths[micro.rows], batch.token_count, batch.rollout_count
    )
    return -resample.coef * (logp * weights).sum() + logp.sum() * 0


def step_record(batch: MiniBatch, plan: BackwardPlan, tokens: Sequence[Tokens]) -> StepRecord:
    """Return the record of a step from the tokens of its micro-batches, which have no gradient."""
    micro_batches = [item.micro for item in plan.micro_batches]
    return StepRecord(
        batch=batch,
        micro_batches=micro_batches,
        learned=[item.backward for item in plan.micro_batches],
        rollout_weights=plan.rollout_weights,
        rows=torch.cat([micro.rows for micro in micro_batches]),
        logp=torch.cat([part.logp for part in tokens]),
        entropy=torch.cat([part.entropy for part in tokens]),
        advantages=torch.cat([part.advantages for part in tokens]),
    )


def measure_advantages(advantages: Float[Tensor, "groups G"], meter: Meter) -> None:
    """Record the mass of positive and negative advantages, per group and rollout."""
    groups, size = advantages.shape
    meter.mean("advantage/mass_positive", advantages.clamp(min=0).sum() / size, groups)
    meter.mean("advantage/mass_negative", -advantages.clamp(max=0).sum() / size, groups)
