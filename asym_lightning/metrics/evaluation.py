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


def counts(verdicts: Sequence[Verdict], lengths: Sequence[int], truncated: Sequence[bool]) -> list[int]:
    """What is counted of one problem: whether the answer that most samples agree on is right (answers compared in their canonical form, a
    tie goes to the one that came first), different right answers, tokens, truncated samples, and samples of every kind."""
    answers = Counter(v.answer for v in verdicts if v.answer is not None)
    winner = answers.most_common(1)[0][0] if answers else None
    right = [v.answer for v in verdicts if v.kind is Kind.CORRECT]
    kinds = Counter(v.kind for v in verdicts)
    return [int(winner in right), len(set(right)), sum(lengths), sum(truncated), *(kinds[kind] for kind in Kind)]


def problem_values(verdicts: Sequence[Verdict], lengths: Sequence[int], truncated: Sequence[bool]) -> list[float]:
    """The values ``names`` of one problem; lengths are in tokens, ``maj@n`` is 1 or 0, ``verify/*`` are shares of the samples."""
    n = len(verdicts)
    majority, distinct, *others = counts(verdicts, lengths, truncated)
    solved = sum(v.kind is Kind.CORRECT for v in verdicts)
    curve = [pass_at_k(n, solved, k) for k in powers_of_two(n)]
    return [sum(v.reward for v in verdicts) / n, *curve, float(majority), float(distinct), *(count / n for count in others)]


class EvaluationMetric(Metric):
    """Means over problems of ``problem_values``, from counts that add up over ranks, whoever has how many problems: the numbers do not
    depend on who had which, to the last digit (but for graded rewards, whose sum is rounded).

    Args:
        samples: n, completions per problem.
    """

    full_state_update = False
    rewards: torch.Tensor
    solved: torch.Tensor
    counts: torch.Tensor

    def __init__(self, samples: int) -> None:
        super().__init__()
        self.samples = samples
        self.add_state("rewards", torch.zeros((), dtype=torch.float64), dist_reduce_fx="sum")
        self.add_state("solved", torch.zeros(samples + 1, dtype=torch.long), dist_reduce_fx="sum")  # problems by their right samples
        self.add_state("counts", torch.zeros(4 + len(Kind), dtype=torch.long), dist_reduce_fx="sum")

    def update(self, group: RolloutGroup) -> None:
        """Add the n completions of one problem."""
        lengths, truncated = [len(c.token_ids) for c in group.completions], [c.truncated for c in group.completions]
        self.rewards += sum(group.rewards)
        self.solved[sum(v.kind is Kind.CORRECT for v in group.verdicts)] += 1
        self.counts += torch.tensor(counts(group.verdicts, lengths, truncated), device=self.counts.device)

    def compute(self) -> dict[str, float]:
        """Name to mean over the problems of all ranks."""
        n, solved = self.samples, self.solved.tolist()
        problems = sum(solved)
        curve = [sum(many * pass_at_k(n, c, k) for c, many in enumerate(solved)) / problems for k in powers_of_two(n)]
        majority, distinct, *others = self.counts.tolist()
        shares = [count / (n * problems) for count in others]
        values = [float(self.rewards) / (n * problems), *curve, majority / problems, distinct / problems, *shares]
        return dict(zip(names(n), values, strict=True))


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
