"""The rollouts of one optimizer step as tensors: a mini-batch of packed micro-batches."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from asym_lightning.learner.attention import Layout
from asym_lightning.types import RolloutGroup


def moved(item: Any, device: torch.device) -> Any:
    """Return a dataclass with all its tensors on ``device``."""
    tensors = {name: value for name, value in vars(item).items() if isinstance(value, Tensor)}
    return replace(item, **{k: v.to(device, non_blocking=True) for k, v in tensors.items()})


@dataclass(frozen=True)
class PackedBatch:
    """One micro-batch: sequences laid end to end without padding.

    All S tokens:
        input_ids, position_ids: positions restart at 0 in each sequence; after a shared prompt they
            continue from it in each of its completions.
        layout: which tokens attend to which.

    The N completion tokens:
        predict_at: index of the hidden state that predicts the token.
        targets: the token.
        rows: the token's rollout within the mini-batch.
        engine_logp: log-probs as the rollout engine reported them.
    """

    input_ids: Int[Tensor, "s"]
    position_ids: Int[Tensor, "s"]
    predict_at: Int[Tensor, "n"]
    targets: Int[Tensor, "n"]
    rows: Int[Tensor, "n"]
    engine_logp: Float[Tensor, "n"]
    layout: Layout | None = None

    def to(self, device: torch.device) -> "PackedBatch":
        return replace(moved(self, device), layout=self.layout and self.layout.to(device))


@dataclass(frozen=True)
class MiniBatch:
    """The complete groups of one optimizer step on this rank.

    Rollout ``row = group * G + member`` indexes everything flattened.

    ``rewards``: what advantages are computed from.
    ``correct``: which rollouts were verified as correct (their kind is ``correct``).
    ``lengths``: tokens of each completion.
    ``token_count``, ``rollout_count``: what is learned from, summed over all ranks.
    ``resampled``: further rollouts, learned from by REINFORCE alone.
    """

    rewards: Float[Tensor, "groups G"]
    correct: Bool[Tensor, "groups G"]
    lengths: Int[Tensor, "rollouts"]
    micro_batches: Sequence[PackedBatch]
    token_count: int = 0
    rollout_count: int = 0
    groups: Sequence[RolloutGroup] = ()
    resampled: "MiniBatch | None" = None

    def to(self, device: torch.device) -> "MiniBatch":
        return replace(
            moved(self, device),
            micro_batches=tuple(micro.to(device) for micro in self.micro_batches),
            resampled=self.resampled and self.resampled.to(device),
        )


@dataclass(frozen=True)
class PriorLogProbs:
    """Log-probs of a micro-batch's completion tokens from before the first update of an iteration.

    ``old``: the old log-probs of the ratio; None: those that the step itself computes.
    ``reference``: those of the reference model, if a modulation needs them.
    """

    old: Float[Tensor, "n"] | None = None
    reference: Float[Tensor, "n"] | None = None

    def to(self, device: torch.device) -> "PriorLogProbs":
        return moved(self, device)


@dataclass(frozen=True)
class StepRecord:
    """The view of an optimizer step on its rollouts: before its update, without gradient.

    ``training_step`` returns it, and Lightning hands it to ``on_train_batch_end`` of the callbacks:
    ``outputs["record"]``.

    batch: the mini-batch, with the rewards that advantages were computed from.
    micro_batches: the scored ones; idle ones may be missing, or hold some of their rollouts only.
    learned: for each of these, whether it had a backward pass.
    rollout_weights: the number of rollouts that each rollout represents in diagnostics.

    Their completion tokens, concatenated:
        rows: the rollout of each token.
        logp, entropy
        advantages: after all modulations.
    """

    batch: MiniBatch
    micro_batches: Sequence[PackedBatch]
    learned: Sequence[bool]
    rollout_weights: Float[Tensor, "rollouts"]
    rows: Int[Tensor, "n"]
    logp: Float[Tensor, "n"]
    entropy: Float[Tensor, "n"]
    advantages: Float[Tensor, "n"]

    @property
    def token_weights(self) -> Float[Tensor, "n"]:
        """The weight of each token in a mean over the mini-batch."""
        return self.rollout_weights[self.rows]
