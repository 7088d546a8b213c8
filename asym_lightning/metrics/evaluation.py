"""avg@n, pass@k, maj@n and what goes with them: per problem, as means over all ranks, with confidence intervals."""

from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torchmetrics import Metric

from asym_lightning.metrics.passk import pass_at_k, powers_of_two
from asym_lightning.types import Kind, RolloutGroup, Verdict

RESAMPLES = 2000


def names(n: int) -> list[str]:
    """What is known of a problem after n samples, in the order of ``problem_values``."""
    curve = [f"pass@{k}" for k in powers_of_two(n)]
    kinds = [f"verify/{kind}" for kind in Kind]
    return [f"avg@{n}", *curve, f"maj@{n}", "distinct_correct", "length/mean", "length/truncated", *kinds]


def problem_values(verdicts: Sequence[Verdict], lengths: Sequence[int], truncated: Sequence[bool]) -> list[float]:
    """The values ``names`` of one problem. ``maj@n`` asks whether the answer most samples agree on is right, answers compared in their
    canonical form (a tie goes to the one that came first); lengths are in tokens; ``verify/*`` are shares of the samples."""
    n = len(verdicts)
    correct = [v for v in verdicts if v.kind is Kind.CORRECT]
    answers = Counter(v.answer for v in verdicts if v.answer is not None)
    winner = answers.most_common(1)[0][0] if answers else None
    kinds = Counter(v.kind for v in verdicts)
    return [
        sum(v.reward for v in verdicts) / n,
        *(pass_at_k(n, len(correct), k) for k in powers_of_two(n)),
        float(any(v.answer == winner for v in correct)),
        float(len({v.answer for v in correct})),
        sum(lengths) / n,
        sum(truncated) / n,
        *(kinds[kind] / n for kind in Kind),
    ]


class EvaluationMetric(Metric):
    """Means over problems of ``problem_values``; sums and their count add up over ranks, whoever has how many problems.

    Args:
        samples: n, completions per problem.
    """

    full_state_update = False
    sums: torch.Tensor
    problems: torch.Tensor

    def __init__(self, samples: int) -> None:
        super().__init__()
        self.names = names(samples)
        self.add_state("sums", torch.zeros(len(self.names), dtype=torch.float64), dist_reduce_fx="sum")
        self.add_state("problems", torch.zeros((), dtype=torch.float64), dist_reduce_fx="sum")

    def update(self, group: RolloutGroup) -> None:
        """Add the n completions of one problem."""
        lengths = [len(c.token_ids) for c in group.completions]
        values = problem_values(group.verdicts, lengths, [c.truncated for c in group.completions])
        self.sums += torch.tensor(values, dtype=torch.float64, device=self.sums.device)
        self.problems += 1

    def compute(self) -> dict[str, float]:
        """Name to mean over the problems of all ranks."""
        return dict(zip(self.names, (self.sums / self.problems).tolist(), strict=True))


def bootstrap(values: np.ndarray, level: float = 0.95, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Percentile interval of the mean of each column over resamples of the rows (problems), ``values`` [problems, metrics]."""
    count = len(values)
    picked = np.random.default_rng(seed).multinomial(count, np.full(count, 1 / count), size=RESAMPLES)
    means = picked @ values / count
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2], axis=0)
    return low, high


def with_intervals(columns: Sequence[str], values: np.ndarray) -> dict[str, Mapping[str, float]]:
    """Column to mean, lower and upper end of its 95% interval over problems."""
    low, high = bootstrap(values)
    rows = zip(columns, values.mean(0), low, high, strict=True)
    return {name: {"mean": float(mean), "low": float(lo), "high": float(hi)} for name, mean, lo, hi in rows}
