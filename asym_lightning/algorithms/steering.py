"""Parts of an algorithm that are steered from step to step by what they see."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar


@dataclass(frozen=True)
class Observation:
    """What one optimizer step saw, over all ranks: token-mean entropies (nats) over all rollouts, over right ones and over wrong ones;
    nan where there is none."""

    entropy: float
    entropy_positive: float
    entropy_negative: float


class Steered:
    """Base class: every hook does nothing. With ``observes``, ``observe`` is called after each optimizer step, alike on every rank."""

    observes: ClassVar[bool] = False

    def observe(self, seen: Observation) -> None:
        """Adapt to what the step saw."""

    def metrics(self) -> dict[str, float]:
        """Steered values to log, by metric name."""
        return {}

    def state_dict(self) -> dict[str, Any]:
        """What a resumed run needs to go on as if it had not stopped."""
        return {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take back what ``state_dict`` gave."""
