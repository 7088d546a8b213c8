"""One optimizer step's rollouts as tensors: mini-batches, made of packed micro-batches."""

from dataclasses import dataclass, field
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from asym_lightning.learner.attention import Layout
from asym_lightning.types import RolloutGroup


@dataclass
class PackedBatch:
    """Sequences laid end to end without padding: one micro-batch.

    ``input_ids`` and ``position_ids`` hold all S tokens (positions restart at 0 in each sequence, and go on after a shared prompt in
    each of its completions); ``layout`` says which of them attend to which. The N completion tokens are addressed by ``predict_at``
    (index of the hidden state that predicts the token), ``targets`` (the token) and ``rows`` (the rollout within the mini-batch it
    belongs to). ``engine_logp`` is what the rollout engine reported. ``logp``, ``entropy`` and ``advantages`` are kept by the optimizer
    step for the diagnostics: what it saw before its update, without gradient, advantages as the modulations left them;
    ``learned`` is False where it took no backward pass.
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
        moved: dict[str, Any] = {k: v.to(device, non_blocking=True) for k, v in vars(self).items() if isinstance(v, Tensor)}
        return PackedBatch(**moved, layout=self.layout and self.layout.to(device), learned=self.learned)


@dataclass
class MiniBatch:
    """One optimizer step's worth of whole groups on this rank.

    ``rewards`` is [groups, G] and what advantages are made of, ``right`` says which rollouts were verified as right (their kind
    is ``correct``); rollout ``row = group * G + member`` indexes everything flattened. ``token_count`` and ``rollout_count``
    are global: summed over all ranks. ``resampled`` holds further rollouts that are learned from by REINFORCE alone. ``stand`` says for
    how many rollouts each one stands in the diagnostics, where only a part of those without a gradient is scored; None: each for itself.
    """

    rewards: Float[Tensor, "groups G"]
    right: Bool[Tensor, "groups G"]
    lengths: Int[Tensor, "rollouts"]
    micro_batches: list[PackedBatch]
    token_count: int = 0
    rollout_count: int = 0
    groups: list[RolloutGroup] = field(default_factory=list)
    resampled: "MiniBatch | None" = None
    stand: Float[Tensor, "rollouts"] | None = None

    def standing(self) -> Float[Tensor, "n"]:
        """For how many tokens each of :meth:`tokens` stands in a mean over the mini-batch."""
        rows = self.tokens("rows")
        return torch.ones(len(rows), device=rows.device) if self.stand is None else self.stand[rows]

    def tokens(self, name: str) -> Tensor:
        """The field ``name`` of all its micro-batches, one behind the other."""
        return torch.cat([getattr(micro, name) for micro in self.micro_batches])
