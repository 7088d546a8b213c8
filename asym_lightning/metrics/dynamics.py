"""What happens to entropy: on which rollouts, and at which accuracy of their group."""

import torch
from jaxtyping import Float
from torch import Tensor

from asym_lightning.learner.batch import MiniBatch
from asym_lightning.runtime.meter import Meter

BIN_EDGES = (0.0, 0.25, 0.5, 0.75)  # lower edges of the accuracy bins; the last one includes p = 1


def accuracy_bin(accuracy: Tensor) -> Tensor:
    """Index of the bin that an accuracy in [0, 1] lies in."""
    return (accuracy * len(BIN_EDGES)).long().clamp(max=len(BIN_EDGES) - 1)


def measure_entropy(batch: MiniBatch, meter: Meter) -> None:
    """Token means of the entropy (nats, full vocabulary, at the rollout temperature, before the update): ``entropy/policy`` over all
    tokens learned from, ``entropy/{positive,negative}`` over those of right and of wrong rollouts, ``entropy/p_{edge}`` over those of
    groups whose accuracy lies in a bin. Where a part of the rollouts stands for all it counts for all."""
    entropy, rows = batch.tokens("entropy").double(), batch.tokens("rows")
    right = batch.right.flatten()[rows]
    bins = accuracy_bin(batch.right.double().mean(1)).repeat_interleave(batch.right.shape[1])[rows]
    standing = batch.standing().double()
    names = ["policy", "positive", "negative", *(f"p_{edge:.2f}" for edge in BIN_EDGES)]
    masks = torch.stack([torch.ones_like(right), right, ~right, *(bins == i for i in range(len(BIN_EDGES)))]).double()
    for name, total, count in zip(names, masks @ (standing * entropy), masks @ standing, strict=True):
        meter.mean(f"entropy/{name}", total, count)


def upper_quantile(values: Float[Tensor, "n"], weights: Float[Tensor, "n"], share: float) -> float:
    """The smallest of ``values`` that at most ``share`` of all weight exceeds."""
    ordered, order = values.sort()
    below = weights.double()[order].cumsum(0)
    place = torch.searchsorted(below, (1 - share) * below[-1] * (1 - 1e-12))
    return float(ordered[place])
