"""Records of optimizer steps, written by hand."""

from typing import Any

import torch
from torch import Tensor

from asym_lightning.learner.batch import MiniBatch, StepRecord


def record(
    batch: MiniBatch, rows: Tensor, weights: Tensor | None = None, **tokens: Any
) -> StepRecord:
    """The record of a step with a backward pass for every micro-batch.

    Args:
        rows: the rollout of each token.
        weights: of the rollouts in diagnostics; 1 unless given.
        tokens: ``logp``, ``entropy`` and ``advantages`` of the tokens; 0 unless given.
    """
    zeros = dict.fromkeys(("logp", "entropy", "advantages"), torch.zeros(len(rows)))
    return StepRecord(
        batch=batch,
        micro_batches=batch.micro_batches,
        learned=[True] * len(batch.micro_batches),
        rollout_weights=torch.ones(batch.correct.numel()) if weights is None else weights,
        rows=rows,
        **(zeros | tokens),
    )
