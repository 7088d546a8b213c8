"""Entropy by outcome of the rollout and by accuracy of its group."""

import torch
from jaxtyping import Float
from torch import Tensor

from asym_lightning.learner.batch import StepRecord
from asym_lightning.runtime.meter import Meter

# Lower edges of the accuracy bins; the last bin includes p = 1.
BIN_EDGES = (0.0, 0.25, 0.5, 0.75)


def accuracy_bin(accuracy: Tensor) -> Tensor:
    """The bin index of each accuracy in [0, 1]."""
    return (accuracy * len(BIN_EDGES)).long().clamp(max=len(BIN_EDGES) - 1)


def measure_entropy(record: StepRecord, meter: Meter) -> None:
    """Add the token means of the entropy to the meter.

    The entropy is in nats, over the full vocabulary, at the rollout temperature, before the update.

    ``entropy/policy``: over all tokens learned from.
    ``entropy/{positive,negative}``: over the tokens of correct and of wrong rollouts.
    ``entropy/p_{edge}``: over the tokens of groups whose accuracy lies in a bin.

    Tokens are weighted by ``StepRecord.token_weights``: if only a part of the rollouts is scored,
    it represents all of them.
    """
    entropy, rows, batch = record.entropy.double(), record.rows, record.batch
    correct = batch.correct.flatten()[rows]
    group_bins = accuracy_bin(batch.correct.double().mean(1))
    bins = group_bins.repeat_interleave(batch.correct.shape[1])[rows]
    token_weights = record.token_weights.double()
    masks = {"policy": torch.ones_like(correct), "positive": correct, "negative": ~correct}
    for i, edge in enumerate(BIN_EDGES):
        masks[f"p_{edge:.2f}"] = bins == i
    table = torch.stack(list(masks.values())).double()
    totals, counts = table @ (token_weights * entropy), table @ token_weights
    for name, total, count in zip(masks, totals, counts, strict=True):
        meter.mean(f"entropy/{name}", total, count)


def upper_quantile(values: Float[Tensor, "n"], weights: Float[Tensor, "n"], share: float) -> float:
    """The smallest of ``values`` such that at most ``share`` of the total weight lies above it."""
    ordered, order = values.sort()
    cumulative = weights.double()[order].cumsum(0)
    index = torch.searchsorted(cumulative, (1 - share) * cumulative[-1] * (1 - 1e-12))
    return float(ordered[index])
