"""Algorithms, random rollout groups and tokens for tests."""

import math
from dataclasses import replace
from typing import Any

import torch

from asym_lightning.algorithms import Algorithm, BetaFamily, PPOClip, TokenMean, Tokens
from asym_lightning.types import Completion, Kind, Problem, Prompt, RolloutGroup, Verdict


def algorithm(**parts: object) -> Algorithm:
    """AsymGRPO, with any part replaced."""
    defaults: dict[str, Any] = {
        "name": "test",
        "advantage": BetaFamily(0.9, 0.4),
        "loss": PPOClip(),
        "aggregation": TokenMean(),
    }
    return Algorithm(**(defaults | parts))


def random_groups(groups: int, size: int, vocabulary: int, seed: int = 0) -> list[RolloutGroup]:
    """Rollout groups of random tokens, lengths and binary rewards.

    The engine's log-probs are near those of a uniform policy.
    """
    generator = torch.Generator().manual_seed(seed)
    noise = torch.Generator().manual_seed(seed)

    def ids(low: int, high: int) -> list[int]:
        length = int(torch.randint(low, high, (1,), generator=generator))
        return torch.randint(vocabulary, (length,), generator=generator).tolist()

    rollout_groups = []
    for number in range(groups):
        prompt = Prompt(Problem(str(number), "", ""), tuple(ids(1, 6)))
        sampled = [ids(1, 9) for _ in range(size)]
        completions = []
        for token_ids in sampled:
            logp = 0.2 * torch.randn(len(token_ids), generator=noise) - math.log(vocabulary)
            truncated = len(token_ids) == 8
            completions.append(Completion(token_ids, logp.tolist(), "", truncated))
        rewards = torch.randint(2, (size,), generator=generator).tolist()
        verdicts = [Verdict(float(r), Kind.CORRECT if r else Kind.WRONG) for r in rewards]
        rollout_groups.append(RolloutGroup(prompt, completions, verdicts))
    return rollout_groups


def tokens(**given: torch.Tensor) -> Tokens:
    """Tokens of one rollout with some fields given; the others are zeros, and the weights 1/n."""
    like = next(iter(given.values()))
    n, zeros = len(like), torch.zeros_like(like).detach()
    fields = dict.fromkeys(("logp", "old_logp", "entropy", "advantages"), zeros)
    fields["rows"] = torch.zeros(n, dtype=torch.long)
    fields["weights"] = torch.full_like(zeros, 1 / n)
    return Tokens(**(fields | given))


def groups_without_signal(kept: int, vocabulary: int = 40) -> list[RolloutGroup]:
    """Eight groups; all but ``kept`` of them have equal rewards."""
    groups = random_groups(8, 4, vocabulary)
    verdicts = correct, wrong = Verdict(1.0, Kind.CORRECT), Verdict(0.0, Kind.WRONG)
    mixed = [replace(group, verdicts=[correct, wrong] * 2) for group in groups]
    equal = [replace(group, verdicts=[verdicts[i % 2]] * 4) for i, group in enumerate(groups)]
    return mixed[:kept] + equal[kept:]
