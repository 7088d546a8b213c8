"""The policy's log-probs of given prompts, to compare with those of an engine of equal weights."""

from collections.abc import Sequence

import torch

from asym_lightning.learner.packing import pack
from asym_lightning.learner.policy import PolicyModule
from asym_lightning.types import Completion


@torch.no_grad()
def prompt_logprobs(policy: PolicyModule, prompts: Sequence[Sequence[int]]) -> list[list[float]]:
    """Return the log-prob (nats, at temperature 1) of each token of each prompt but its first."""
    rollouts = []
    for i, prompt in enumerate(prompts):
        # All tokens but the first take the place of a completion.
        tokens = list(prompt[1:])
        completion = Completion(
            token_ids=tokens, logprobs=[0.0] * len(tokens), text="", truncated=False
        )
        rollouts.append((i, prompt[:1], completion))
    batch = pack(rollouts).to(policy.device)
    with policy.trainer.precision_plugin.forward_context():
        logp = policy.score(batch, temperature=1.0).logp.float().tolist()
    remaining = iter(logp)
    return [[next(remaining) for _ in prompt[1:]] for prompt in prompts]
