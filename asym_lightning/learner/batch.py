"""The rollouts of one optimizer step as tensors: a mini-batch of packed micro-batches."""

from dataclasses import dataclass, field
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from asym_lightning.learner.attention import Layout
from asym_lightning.types import RolloutGroup


@dataclass
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
        old_logp: log-probs before the first update; None until they are known.
        reference_logp: log-probs of the reference, if a modulation needs them.

    Kept by the optimizer step for diagnostics, as before its update and without gradient:
        logp, entropy
        advantages: after all modulations.
        learned: False if there was no backward pass.
    """

    input_ids: Int[Tensor, "s"]
    position_ids: Int[Tensor, "s"]
    predict_at: Int[Tensor, "n"]
    targets: Int[Tensor, "n"]
    rows: Int[Tensor, "n"]
    engine_logp: Float[Tensor, "n"]
    layout: Layout | None = None
    old_logp: Float[Tensor, "n"] | None = None
    reference_logp: Float[Tensor, "n"] | None = None
    logp: Float[Tensor, "n"] | None = None
    entropy: Float[Tensor, "n"] | None = None
    advantages: Float[Tensor, "n"] | None = None
    learned: bool = True

    def to(self, device: torch.device) -> "PackedBatch":
        tensors: dict[str, Any] = {
            name: value.to(device, non_blocking=True)
            for name, value in vars(self).items()
            if isinstance(value, Tensor)
        }
        layout = self.layout and self.layout.to(device)
        return PackedBatch(**tensors, layout=layout, learned=self.learned)


@dataclass
class MiniBatch:
    """The complete groups of one optimizer step on this rank.

    Rollout ``row = group * G + member`` indexes everything flattened.

    ``rewards``: what advantages are computed from.
    ``correct``: which rollouts were verified as correct (their kind is ``correct``).
    ``lengths``: tokens of each completion.
    ``token_count``, ``rollout_count``: what is learned from, summed over all ranks.
    ``resampled``: further rollouts, learned from by REINFORCE alone.
    ``rollout_weights``: the number of rollouts that each one represents in diagnostics, if only
    some of the rollouts without a gradient are scored; None: 1 each.
    """

    rewards: Float[Tensor, "groups G"]
    correct: Bool[Tensor, "groups G"]
    lengths: Int[Tensor, "rollouts"]
    micro_batches: list[PackedBatch]
    token_count: int = 0
    rollout_count: int = 0
    groups: list[RolloutGroup] = field(default_factory=list)
    resampled: "MiniBatch | None" = None
    rollout_weights: Float[Tensor, "rollouts"] | None = None

    def token_weights(self) -> Float[Tensor, "n"]:
        """Return the weight of each of :meth:`tokens` in a mean over the mini-batch."""
        rows = self.tokens("rows")
        if self.rollout_weights is None:
            return torch.ones(len(rows), device=rows.device)
        return self.rollout_weights[rows]

    def tokens(self, name: str) -> Tensor:
        """Return the field ``name`` of all micro-batches, concatenated."""
        return torch.cat([getattr(micro, name) for micro in self.micro_batches])
