"""Advantages, policy losses, entropy modulations: pure tensor functions."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from asym_lightning.algorithms.advantages import (
    Advantage,
    BetaFamily,
    GroupStandardized,
    MeanCentered,
)
from asym_lightning.algorithms.aggregation import (
    Aggregation,
    SequenceMeanTokenMean,
    SequenceSumOverConstant,
    TokenMean,
)
from asym_lightning.algorithms.corrections import Correction, NoCorrection
from asym_lightning.algorithms.losses import LossInputs, LossOutput, PolicyLoss, PPOClip
from asym_lightning.algorithms.modulation import EntropyBonus, Modulation
from asym_lightning.algorithms.rules import RolloutRules
from asym_lightning.algorithms.steering import Steered
from asym_lightning.algorithms.tokens import Tokens
from asym_lightning.types import FieldError

__all__ = [
    "Advantage",
    "Aggregation",
    "Algorithm",
    "BetaFamily",
    "Correction",
    "EntropyBonus",
    "GroupStandardized",
    "LossInputs",
    "LossOutput",
    "MeanCentered",
    "Modulation",
    "PPOClip",
    "PolicyLoss",
    "RolloutRules",
    "SequenceMeanTokenMean",
    "SequenceSumOverConstant",
    "TokenMean",
    "Tokens",
]


@dataclass
class Algorithm:
    """The parts of a method, built from ``algo`` in the config.

    Args:
        name: name of the method.
        advantage, loss, aggregation: see the protocols Advantage, PolicyLoss and Aggregation.
        modulation: a list of modulations, or a mapping of names to modulations, which merges well
            in YAML. Kept as a tuple in that order.
        rules: which rollouts are learned from.
        equal_scale: multiply all advantages of a mini-batch by one number, so that their mean
            magnitude is that of GRPO (ddof 1, eps 1e-6) on the same rewards. This control separates
            the shape of an advantage from its effect on the learning rate.
        correction: weights the policy loss if the engine samples from a policy other than the
            trainer's.

    Raises:
        FieldError: an entry of ``modulation`` is not a Modulation, two of them need different
            nuclei, or ``correction`` is not a correction.
    """

    name: str
    advantage: Advantage
    loss: PolicyLoss
    aggregation: Aggregation
    modulation: Iterable[Modulation] | Mapping[Any, Modulation] = ()
    rules: RolloutRules = field(default_factory=RolloutRules)
    equal_scale: bool = False
    correction: Correction = field(default_factory=NoCorrection)

    def __post_init__(self) -> None:
        entries = self.modulation
        named = dict(entries.items() if isinstance(entries, Mapping) else enumerate(entries))
        for key, entry in named.items():
            if not isinstance(entry, Modulation):
                raise FieldError(
                    f"modulation.{key}={entry}: must be a modulation "
                    "(a mapping with _target_, see conf/modulation)"
                )
        self.modulation: tuple[Modulation, ...] = tuple(named.values())
        if len({m.nucleus for m in self.modulation} - {None}) > 1:
            raise FieldError("modulation: all that use top_p must use the same top_p")
        if not callable(self.correction):
            raise FieldError(
                f"correction={self.correction}: must be a correction "
                "(a mapping with _target_, see conf/correction)"
            )

    @property
    def nucleus(self) -> float | None:
        """The top-p of the nucleus entropy that a modulation needs, or None."""
        return next((m.nucleus for m in self.modulation if m.nucleus is not None), None)

    @property
    def steered(self) -> list[Steered]:
        """The parts that may carry state from step to step."""
        parts = (self.advantage, *self.modulation, self.rules.resample)
        return [part for part in parts if isinstance(part, Steered)]

    @property
    def uses_ratio(self) -> bool:
        """Whether the policy loss weighs tokens by the ratio of new to old probability."""
        return getattr(self.loss, "uses_ratio", True)

    def policy_loss(
        self, inputs: LossInputs, engine_logp: Float[Tensor, "n"], old_is_engine: bool = False
    ) -> LossOutput:
        """The policy loss of each token, weighted by the correction.

        The correction compares ``inputs.old_logp`` with the engine's log-probs. If the old
        log-probs are the engine's (``old_is_engine``), it compares the current log-probs instead. A
        loss with a ratio already holds that weight; the correction then only decides which tokens
        are dropped.
        """
        out = self.loss(inputs)
        logp = inputs.logp.detach() if old_is_engine else inputs.old_logp
        correction = self.correction(logp, engine_logp, inputs.rows)
        weights = correction.per_token
        if old_is_engine and self.uses_ratio:
            weights = (weights > 0).to(logp.dtype)
        return LossOutput(out.per_token * weights, out.diagnostics | correction.diagnostics)

    def advantages(
        self, rewards: Float[Tensor, "groups G"], lengths: Int[Tensor, "groups G"]
    ) -> Float[Tensor, "groups G"]:
        """The advantages of a full mini-batch, scaled to GRPO's magnitude if ``equal_scale``."""
        if getattr(self.advantage, "uses_lengths", False):
            advantages = self.advantage(rewards, lengths=lengths)  # type: ignore[call-arg]
        else:
            advantages = self.advantage(rewards)
        if not self.equal_scale:
            return advantages
        magnitude = advantages.abs().mean()
        grpo_magnitude = GroupStandardized()(rewards).abs().mean()
        return torch.where(magnitude > 0, advantages * (grpo_magnitude / magnitude), advantages)
