"""pass@k, avg@k and maj@k from n samples per problem."""

from collections import Counter, defaultdict
from collections.abc import Sequence
from math import comb

from asym_lightning.types import Kind, RolloutGroup


def pass_at_k(n: int, c: int, k: int) -> float:
    """Unbiased probability that one of k samples is right, given c right ones among n: 1 - C(n-c,k)/C(n,k).

    Source: Chen et al. 2021 (arXiv 2107.03374), equation 1.

    Raises:
        ValueError: k is not between 1 and n.
    """
    if not 1 <= k <= n:
        raise ValueError(f"pass@{k} needs 1 <= k <= n = {n}")
    return 1.0 - comb(n - c, k) / comb(n, k)


def powers_of_two(n: int) -> list[int]:
    """1, 2, 4 ... below n, and n: the k of a pass@k curve."""
    return [*(1 << i for i in range((n - 1).bit_length())), n] if n > 1 else [1]


def evaluation(groups: Sequence[RolloutGroup]) -> dict[str, float]:
    """Sums over ``groups`` of avg@n, pass@k for k = 1, 2, 4 ... n, maj@n and the number of distinct correct answers, with their count."""
    n = len(groups[0].completions)
    sums: defaultdict[str, float] = defaultdict(float, problems=float(len(groups)))
    for group in groups:
        correct = [v for v in group.verdicts if v.kind is Kind.CORRECT]
        answers = Counter(v.answer for v in group.verdicts if v.answer is not None)
        winner = answers.most_common(1)[0][0] if answers else None
        sums[f"avg@{n}"] += sum(group.rewards) / n
        for k in powers_of_two(n):
            sums[f"pass@{k}"] += pass_at_k(n, len(correct), k)
        sums[f"maj@{n}"] += any(v.answer == winner for v in correct)
        sums["distinct_correct"] += len({v.answer for v in correct})
    return dict(sums)
