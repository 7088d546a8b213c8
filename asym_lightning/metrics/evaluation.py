"""Evaluation metrics (avg@n, pass@k, maj@n and others): per problem, and as means over all ranks.

Means over problems come with bootstrap confidence intervals.
"""

from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torchmetrics import Metric

from asym_lightning.metrics.bootstrap import bootstrap
from asym_lightning.metrics.passk import pass_at_k, powers_of_two
from asym_lightning.types import Kind, RolloutGroup, Verdict

# Fewer than of seeds: there are hundreds of problems, with some thirty metrics each.
RESAMPLES = 2000


def names(n: int) -> list[str]:
    """The metric names of a problem with n samples, in the order of ``problem_values``."""
    return [
        f"avg@{n}",
        *(f"pass@{k}" for k in powers_of_two(n)),
        f"maj@{n}",
        "distinct_correct",
        "length/mean",
        "length/truncated",
        *(f"verify/{kind}" for kind in Kind),
    ]


def counts(
    verdicts: Sequence[Verdict], lengths: Sequence[int], truncated: Sequence[bool]
) -> list[int]:
    """The counts of one problem.

    Whether the majority answer is correct (1 or 0), distinct correct answers, tokens, truncated
    samples, and samples of each kind. The majority answer is the most frequent one: answers are
    compared in their canonical form, and of equally frequent answers the one that came first wins.
    """
    answers = Counter(v.answer for v in verdicts if v.answer is not None)
    majority_answer = answers.most_common(1)[0][0] if answers else None
    correct_answers = [v.answer for v in verdicts if v.kind is Kind.CORRECT]
    kinds = Counter(v.kind for v in verdicts)
    return [
        int(majority_answer in correct_answers),
        len(set(correct_answers)),
        sum(lengths),
        sum(truncated),
        *(kinds[kind] for kind in Kind),
    ]


def problem_values(
    verdicts: Sequence[Verdict], lengths: Sequence[int], truncated: Sequence[bool]
) -> list[float]:
    """The values of one problem, in the order of ``names``.

    Lengths are in tokens, ``maj@n`` is 1 or 0, ``verify/*`` are shares of the samples.
    """
    n = len(verdicts)
    majority, distinct, *sums = counts(verdicts, lengths, truncated)
    solved = sum(v.kind is Kind.CORRECT for v in verdicts)
    return [
        sum(v.reward for v in verdicts) / n,
        *(pass_at_k(n, solved, k) for k in powers_of_two(n)),
        float(majority),
        float(distinct),
        *(count / n for count in sums),
    ]


class EvaluationMetric(Metric):
    """Means over problems of ``problem_values``, from counts that are summed over ranks.

    The result is the same to the last digit for any split of the problems over ranks (except for
    graded rewards, whose sum is rounded).

    State: ``rewards``, the sum of all rewards; ``solved`` [n + 1], the number of problems for each
    number of correct samples; ``counts``, the sums over problems of the function :func:`counts`.

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
        initial = {
            "rewards": torch.zeros((), dtype=torch.float64),
            "solved": torch.zeros(samples + 1, dtype=torch.long),
            "counts": torch.zeros(4 + len(Kind), dtype=torch.long),
        }
        for name, value in initial.items():
            self.add_state(name, value, dist_reduce_fx="sum")

    def update(self, group: RolloutGroup) -> None:
        """Add the n completions of one problem."""
        lengths = [len(completion.token_ids) for completion in group.completions]
        truncated = [completion.truncated for completion in group.completions]
        self.rewards += sum(group.rewards)
        self.solved[sum(v.kind is Kind.CORRECT for v in group.verdicts)] += 1
        problem_counts = counts(group.verdicts, lengths, truncated)
        self.counts += torch.tensor(problem_counts, device=self.counts.device)

    def compute(self) -> dict[str, float]:
        """Name to mean over the problems of all ranks."""
        n, solved = self.samples, self.solved.tolist()
        problems = sum(solved)
        curve = []
        for k in powers_of_two(n):
            total = sum(count * pass_at_k(n, correct, k) for correct, count in enumerate(solved))
            curve.append(total / problems)
        majority, distinct, *sums = self.counts.tolist()
        values = [
            float(self.rewards) / (n * problems),
            *curve,
            majority / problems,
            distinct / problems,
            *(count / (n * problems) for count in sums),
        ]
        return dict(zip(names(n), values, strict=True))


def with_intervals(columns: Sequence[str], values: np.ndarray) -> dict[str, Mapping[str, float]]:
    """Column to mean and to the lower and upper end of its 95% interval over problems."""
    lows, highs = bootstrap(np.mean, np.ascontiguousarray(values.T), resamples=RESAMPLES)
    intervals: dict[str, Mapping[str, float]] = {}
    for name, mean, low, high in zip(columns, values.mean(0), lows, highs, strict=True):
        intervals[name] = {"mean": float(mean), "low": float(low), "high": float(high)}
    return intervals
