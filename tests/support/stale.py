"""A rollout callback that does not hand the new weights to the engine."""

from typing import Any

from asym_lightning.learner.policy import PolicyModule
from callbacks.vllm_rollout import VLLMRollout


class StaleRollout(VLLMRollout):
    """Syncs before the first rollouts and never again, but tells the engine the new version."""

    def sync(self, policy: PolicyModule, version: int) -> None:
        assert self.collector is not None
        engine: Any = self.collector.engine
        if not self.groups:
            super().sync(policy, version)
        engine.version = version
