"""An algorithm: an advantage, a policy loss with its aggregation, and entropy modulations, as pure tensor functions."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from asym_lightning.algorithms.advantages import Advantage, BetaFamily, GroupStandardized, MeanCentered
from asym_lightning.algorithms.aggregation import Aggregation, SequenceMeanTokenMean, SequenceSumOverConstant, TokenMean
from asym_lightning.algorithms.corrections import Correction, NoCorrection
from asym_lightning.algorithms.losses import LossInputs, LossOutput, PolicyLoss, PPOClip
from asym_lightning.algorithms.modulation import EntropyBonus, Modulation
from asym_lightning.algorithms.rules import RolloutRules
from asym_lightning.algorithms.steering import Steered
from asym_lightning.algorithms.tokens import Tokens
from asym_lightning.types import ConfigError

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
    """What ``algo`` in the config becomes. ``modulation`` may be given as name -> modulation, which merges well in YAML;
    it is kept as a tuple in that order. ``rules`` say which rollouts are learned from. ``equal_scale`` multiplies all advantages of
    a mini-batch by one number, so that their mean magnitude is that of GRPO (ddof 1, eps 1e-6) on the same rewards: a control that
    tells a shape from a learning rate. ``correction`` weighs the policy loss where the engine samples from another policy.

    Raises:
        ConfigError: an entry of ``modulation`` is not a Modulation, two of them want another nucleus, or ``correction`` is not a part.
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
        given = self.modulation
        named = dict(given.items()) if isinstance(given, Mapping) else dict(enumerate(given))
        for key, entry in named.items():
            if not isinstance(entry, Modulation):
                raise ConfigError(f"algo.modulation.{key}={entry}: must be a modulation (a mapping with _target_, see conf/modulation)")
        self.modulation: tuple[Modulation, ...] = tuple(named.values())
        if len({m.nucleus for m in self.modulation} - {None}) > 1:
            raise ConfigError("algo.modulation: all that use top_p must use the same")
        if not callable(self.correction):
            raise ConfigError(f"algo.correction={self.correction}: must be a correction (a mapping with _target_, see conf/correction)")

    @property
    def nucleus(self) -> float | None:
        """The top-p of the nucleus entropy that a modulation needs."""
        return next((m.nucleus for m in self.modulation if m.nucleus is not None), None)

    @property
    def steered(self) -> list[Steered]:
        """The parts that may carry state from step to step."""
        return [part for part in (self.advantage, *self.modulation, self.rules.resample) if isinstance(part, Steered)]

    @property
    def uses_ratio(self) -> bool:
        """Whether the policy loss weighs tokens by the ratio of new to old probability."""
        return getattr(self.loss, "uses_ratio", True)

    def policy_loss(self, inputs: LossInputs, engine_logp: Float[Tensor, "n"], old_is_engine: bool = False) -> LossOutput:
        """The policy loss of each token under the correction.

        The weight is that of ``inputs.old_logp`` against the engine's log-probs. Where the old log-probs are the engine's
        (``old_is_engine``) it is that of the policy as it is now; a loss with a ratio holds this weight already, and the correction
        then only says which tokens are dropped."""
        out = self.loss(inputs)
        logp = inputs.logp.detach() if old_is_engine else inputs.old_logp
        found = self.correction(logp, engine_logp, inputs.rows)
        weights = (found.per_token > 0).to(logp.dtype) if old_is_engine and self.uses_ratio else found.per_token
        return LossOutput(out.per_token * weights, out.diagnostics | found.diagnostics)

    def advantages(self, rewards: Float[Tensor, "groups G"], lengths: Int[Tensor, "groups G"]) -> Float[Tensor, "groups G"]:
        """Advantages of a whole mini-batch, scaled if asked for."""
        uses_lengths = getattr(self.advantage, "uses_lengths", False)
        advantages = self.advantage(rewards, lengths=lengths) if uses_lengths else self.advantage(rewards)  # type: ignore[call-arg]
        if not self.equal_scale:
            return advantages
        own, grpo = advantages.abs().mean(), GroupStandardized()(rewards).abs().mean()
        return torch.where(own > 0, advantages * (grpo / own), advantages)
