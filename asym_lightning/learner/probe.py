"""What the policy says of given tokens, to be compared with what an engine says under the same weights."""

from collections.abc import Sequence

import torch

from asym_lightning.learner.packing import pack
from asym_lightning.learner.policy import PolicyModule
from asym_lightning.types import Completion


@torch.no_grad()
def prompt_logprobs(policy: PolicyModule, prompts: Sequence[Sequence[int]]) -> list[list[float]]:
    """Log-probability (nats, at temperature 1) of each token of each prompt but its first."""
    rows = [(i, prompt[:1], Completion(list(prompt[1:]), [0.0] * (len(prompt) - 1), "", False)) for i, prompt in enumerate(prompts)]
    batch = pack(rows).to(policy.device)
    with policy.trainer.precision_plugin.forward_context():
        logp = policy.score(batch, temperature=1.0).logp.float().tolist()
    found = iter(logp)
    return [[next(found) for _ in prompt[1:]] for prompt in prompts]
