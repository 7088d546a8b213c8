"""A rollout callback that forgets to hand the engine the new weights."""

from typing import Any

from asym_lightning.learner.policy import PolicyModule
from callbacks.vllm_rollout import VLLMRollout


class StaleRollout(VLLMRollout):
    """Syncs before the first rollouts and never again; the engine believes that it was."""

    def sync(self, policy: PolicyModule, version: int) -> None:
        engine: Any = self.engine
        if not self.groups:
            super().sync(policy, version)
        engine.version = version
