"""A rollout callback that forgets to hand the engine the new weights."""

from asym_lightning.policy import PolicyModule
from callbacks.vllm_rollout import VLLMRollout


class StaleRollout(VLLMRollout):
    """Syncs before the first rollouts and never again."""

    def sync(self, policy: PolicyModule) -> None:
        if not self.groups:
            super().sync(policy)
