"""An algorithm is a choice of small parts: an advantage, a policy loss with its aggregation, and entropy modulations."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from asym_lightning.algorithms.advantages import Advantage, BetaFamily, GroupStandardized, MeanCentered
from asym_lightning.algorithms.aggregation import Aggregation, SequenceMeanTokenMean, SequenceSumOverConstant, TokenMean
from asym_lightning.algorithms.losses import LossInputs, LossOutput, PolicyLoss, PPOClip
from asym_lightning.algorithms.modulation import EntropyBonus, Modulation
from asym_lightning.types import ConfigError

__all__ = [
    "Advantage",
    "Aggregation",
    "Algorithm",
    "BetaFamily",
    "EntropyBonus",
    "GroupStandardized",
    "LossInputs",
    "LossOutput",
    "MeanCentered",
    "Modulation",
    "PPOClip",
    "PolicyLoss",
    "SequenceMeanTokenMean",
    "SequenceSumOverConstant",
    "TokenMean",
]


@dataclass
class Algorithm:
    """What ``algo`` in the config becomes. ``modulation`` may be given as name -> modulation, which merges well in YAML;
    it is kept as a tuple in that order.

    Raises:
        ConfigError: an entry of ``modulation`` is not a Modulation.
    """

    name: str
    advantage: Advantage
    loss: PolicyLoss
    aggregation: Aggregation
    modulation: Iterable[Modulation] | Mapping[Any, Modulation] = ()

    def __post_init__(self) -> None:
        given = self.modulation
        named = dict(given.items()) if isinstance(given, Mapping) else dict(enumerate(given))
        for key, entry in named.items():
            if not isinstance(entry, Modulation):
                raise ConfigError(f"algo.modulation.{key}={entry}: must be a modulation (a mapping with _target_, see conf/modulation)")
        self.modulation: tuple[Modulation, ...] = tuple(named.values())
