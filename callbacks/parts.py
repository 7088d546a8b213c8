"""Parts of a run that its optional callbacks may use."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

from asym_lightning.tasks.base import PromptSet
from callbacks.record import Recorder
from callbacks.vllm_rollout import VLLMRollout


@dataclass(frozen=True)
class RunParts:
    """The parts that a run gives to each callback with a method ``take_parts``.

    Args:
        rollout: the callback that samples the rollouts; it has the engine.
        record: the callback that closes each iteration; it has all metrics.
        sets: the task's held-out problems and the benchmarks.
        hyperparameters: the settings that affect results, by dotted key.
        note_failure: writes into the run's folder why the run ended.
    """

    rollout: VLLMRollout
    record: Recorder
    sets: Sequence[PromptSet]
    hyperparameters: Mapping[str, Any]
    note_failure: Callable[[str], None]


@runtime_checkable
class TakesParts(Protocol):
    """A callback that needs parts of its run; the constructor takes settings of the config only."""

    def take_parts(self, parts: RunParts) -> None:
        """Keep what is needed of ``parts``. Called once, before training."""
