"""A callback after which the engine does not get new weights."""

from typing import Any

from lightning import Callback

from asym_lightning.learner.policy import PolicyModule
from callbacks.parts import RunParts


class StaleWeights(Callback):
    """The rollout syncs once, and later only tells the engine the new version."""

    def take_parts(self, parts: RunParts) -> None:
        rollout, sync = parts.rollout, parts.rollout.sync

        def stale(policy: PolicyModule, version: int) -> None:
            assert rollout.collector is not None
            engine: Any = rollout.collector.engine
            if not rollout.groups:
                sync(policy, version)
            engine.version = version

        rollout.sync = stale  # type: ignore[method-assign]
