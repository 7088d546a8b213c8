"""The policy's log-probs of given prompts, to compare with those of an engine of equal weights."""

from collections.abc import Sequence

import torch

from asym_lightning.learner.batch import PackedBatch
from asym_lightning.learner.engine_check import bound_of_rounding
from asym_lightning.learner.packing import pack
from asym_lightning.learner.policy import PolicyModule
from asym_lightning.types import Completion


@torch.no_grad()
def probe_logprobs(
    policy: PolicyModule, prompts: Sequence[Sequence[int]]
) -> tuple[list[list[float]], float]:
    """Score prompts, and measure what rounding explains of an engine's difference. Collective.

    Returns:
        The log-prob (nats, at temperature 1) of each token of each prompt but its first, and the
        largest mean difference that rounding explains.
    """
    batch = _batch(prompts).to(policy.device)
    with policy.trainer.precision_plugin.forward_context():
        logp = policy.score(batch, temperature=1.0).logp
    bound = bound_of_rounding(policy, batch, logp, temperature=1.0)
    remaining = iter(logp.float().tolist())
    return [[next(remaining) for _ in prompt[1:]] for prompt in prompts], bound


def _batch(prompts: Sequence[Sequence[int]]) -> PackedBatch:
    """Pack prompts: all tokens but the first take the place of a completion."""
    rollouts = []
    for i, prompt in enumerate(prompts):
        tokens = list(prompt[1:])
        completion = Completion(
            token_ids=tokens, logprobs=[0.0] * len(tokens), text="", truncated=False
        )
        rollouts.append((i, prompt[:1], completion))
    return pack(rollouts)
