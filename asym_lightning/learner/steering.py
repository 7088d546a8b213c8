"""Adaptive parts of the algorithm: their values are recorded, and they are shown each step."""

from typing import Any

import torch

from asym_lightning.algorithms import Algorithm
from asym_lightning.algorithms.steering import Observation
from asym_lightning.learner.batch import StepRecord
from asym_lightning.runtime.meter import Meter
from asym_lightning.runtime.ranks import reduce_over_ranks


def steer(algorithm: Algorithm, record: StepRecord, meter: Meter, *, dp_group: Any) -> None:
    """Record the values that a step was taken with, then let the adaptive parts observe the step.

    Args:
        record: of the step, with the entropies that it saw.
        dp_group: the process group with one rank for each part of the rollouts; None: all ranks.
    """
    for part in algorithm.steered:
        for name, value in part.metrics().items():
            meter.mean(name, value, 1)
    if not any(part.observes for part in algorithm.steered):
        return
    entropy = record.entropy.double()
    correct = record.batch.correct.flatten()[record.rows]
    # Sums over the tokens of all rollouts, of correct ones and of wrong ones.
    masks = torch.stack([torch.ones_like(correct), correct, ~correct]).double()
    sums = torch.stack([masks @ entropy, masks.sum(1)])
    totals, counts = reduce_over_ranks(sums, "sum", dp_group)
    # Without any token (all rollouts truncated and masked) there is nothing to observe.
    if counts[0]:
        observation = Observation(*(totals / counts).tolist())
        for part in algorithm.steered:
            part.observe(observation)
