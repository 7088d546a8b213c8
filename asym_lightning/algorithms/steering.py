"""Parts of an algorithm that adapt from step to step to what they observe."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar


@dataclass(frozen=True)
class Observation:
    """Token-mean entropies (nats) of one optimizer step, over all ranks.

    Over all rollouts, over the correct ones and over the wrong ones; nan without such rollouts.
    """

    entropy: float
    entropy_positive: float
    entropy_negative: float


class Steered:
    """Base class of adaptive parts: every hook does nothing.

    With ``observes``, ``observe`` is called after each optimizer step with the same values on every
    rank.
    """

    observes: ClassVar[bool] = False

    def observe(self, seen: Observation) -> None:
        """Adapt to the observation of the last step."""

    def metrics(self) -> dict[str, float]:
        """Steered values to log, by metric name."""
        return {}

    def state_dict(self) -> dict[str, Any]:
        """The state with which a resumed run continues as if it had not stopped."""
        return {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore the state that ``state_dict`` returned."""
