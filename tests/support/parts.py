"""Small pieces that several tests share."""

import math

import torch

from asym_lightning.algorithms import Algorithm, BetaFamily, PPOClip, TokenMean, Tokens
from asym_lightning.types import Completion, Kind, Problem, Prompt, RolloutGroup, Verdict


def algorithm(**parts: object) -> Algorithm:
    """AsymGRPO, with any part replaced."""
    return Algorithm(**{"name": "test", "advantage": BetaFamily(0.9, 0.4), "loss": PPOClip(), "aggregation": TokenMean(), **parts})  # type: ignore[arg-type]


def random_groups(groups: int, size: int, vocabulary: int, seed: int = 0) -> list[RolloutGroup]:
    """Rollout groups of random tokens, lengths and binary rewards; the engine's log-probs are near those of a uniform policy."""
    generator = torch.Generator().manual_seed(seed)
    noise = torch.Generator().manual_seed(seed)

    def ids(low: int, high: int) -> list[int]:
        length = int(torch.randint(low, high, (1,), generator=generator))
        return torch.randint(vocabulary, (length,), generator=generator).tolist()

    made = []
    for g in range(groups):
        prompt = Prompt(Problem(str(g), "", ""), tuple(ids(1, 6)))
        sampled = [ids(1, 9) for _ in range(size)]
        logprobs = [(0.2 * torch.randn(len(tokens), generator=noise) - math.log(vocabulary)).tolist() for tokens in sampled]
        completions = [Completion(t, lp, "", len(t) == 8) for t, lp in zip(sampled, logprobs, strict=True)]
        rewards = torch.randint(2, (size,), generator=generator).tolist()
        made.append(RolloutGroup(prompt, completions, [Verdict(float(r), Kind.CORRECT if r else Kind.WRONG) for r in rewards]))
    return made


def tokens(**given: torch.Tensor) -> Tokens:
    """Tokens with some fields given; the others are zeros, the weights 1/n, and all are of one rollout."""
    like = next(iter(given.values()))
    n, zeros = len(like), torch.zeros_like(like).detach()
    base = dict.fromkeys(("logp", "old_logp", "entropy", "advantages"), zeros)
    return Tokens(**{**base, "rows": torch.zeros(n, dtype=torch.long), "weights": torch.full_like(zeros, 1 / n), **given})
