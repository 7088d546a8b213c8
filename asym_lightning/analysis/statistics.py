"""Statistics of a few seeds: intervals, paired tests, Holm's correction, and cautious verdicts.

rliable's aggregates (arXiv 2108.13264) are computed here with scipy, value for value: interquartile
mean, probability of improvement, performance profile.
"""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any

import numpy as np
from scipy import stats

from asym_lightning.metrics.bootstrap import LEVEL, Array, bootstrap

# Shared seeds below which there is no verdict.
FEWEST = 3
Interval = tuple[float, float]


class Verdict(StrEnum):
    """A comparison's result: better or worse if a measure has a good side, else higher or lower."""

    BETTER = "better"
    WORSE = "worse"
    HIGHER = "higher"
    LOWER = "lower"
    NOT_SEPARATED = "not separated"
    TOO_FEW = "too few seeds"


@dataclass(frozen=True)
class Summary:
    """A measure of an arm over its n seeds.

    ``interval`` is of the mean, ``iqm_interval`` of the interquartile mean. With a single seed
    there is neither.
    """

    n: int
    mean: float
    std: float | None
    interval: Interval | None
    iqm: float
    iqm_interval: Interval | None


@dataclass(frozen=True)
class Paired:
    """An arm minus its baseline over the n seeds that both have.

    ``t_interval`` and ``p_t`` are Student's, for differences that are about normal.
    ``bootstrap_interval`` resamples seeds and is too narrow for a handful of them. ``p_sign_flip``
    is exact under the only assumption of a symmetric distribution, and never below ``smallest_p``.
    """

    n: int
    difference: float
    t_interval: Interval | None
    bootstrap_interval: Interval | None
    p_t: float | None
    p_sign_flip: float | None
    smallest_p: float | None


def summarise(values: Sequence[float]) -> Summary:
    """Return mean, sample standard deviation and interquartile mean of a value per seed.

    The intervals are bootstrap intervals.
    """
    x = np.asarray(values, dtype=np.float64)
    several = len(x) > 1
    return Summary(
        n=len(x),
        mean=float(x.mean()),
        std=float(x.std(ddof=1)) if several else None,
        interval=_interval(np.mean, x) if several else None,
        iqm=iqm(x),
        iqm_interval=_interval(iqm_along, x) if several else None,
    )


def iqm_along(x: Array, axis: int = -1) -> Array:
    """Interquartile mean: the mean without the lowest and the highest quarter (rounded down).

    Below four values it is the mean.
    """
    return stats.trim_mean(x, 0.25, axis=axis)


def iqm(x: Array) -> float:
    return float(iqm_along(x))


def _interval(statistic: Callable[..., Any], *samples: Array) -> Interval:
    """The bootstrap interval of a number over the seeds of runs."""
    low, high = bootstrap(statistic, *samples)
    return float(low), float(high)


def improvement_along(x: Array, y: Array, axis: int = -1) -> Array:
    """Probability that a run of ``x`` lies above a run of ``y``, with ties counted half.

    It is the Mann-Whitney U over all pairs, as a share.
    """
    return (0.5 + 0.5 * np.sign(x[..., :, None] - y[..., None, :])).mean(axis=(-2, -1))


def improvement(
    x: Sequence[float], y: Sequence[float], direction: int = 1
) -> tuple[float, Interval | None]:
    """Probability that a run of ``x`` is better than a run of ``y``, with its interval.

    If neither side is good (``direction`` 0), it is the probability that ``x`` lies above.
    """
    sign = -1 if direction < 0 else 1
    a, b = (np.asarray(values, dtype=np.float64) * sign for values in (x, y))
    interval = _interval(improvement_along, a, b) if min(len(a), len(b)) > 1 else None
    return float(improvement_along(a, b)), interval


def paired(values: dict[int, float], baseline: dict[int, float]) -> Paired | None:
    """Compare two arms over the seeds that both have; None if they share no seed."""
    seeds = sorted(values.keys() & baseline.keys())
    if not seeds:
        return None
    differences = np.array([values[seed] - baseline[seed] for seed in seeds])
    n, mean = len(differences), float(differences.mean())
    if n < 2:
        return Paired(
            n=n,
            difference=mean,
            t_interval=None,
            bootstrap_interval=None,
            p_t=None,
            p_sign_flip=None,
            smallest_p=None,
        )
    low, high, p = t_test(mean, float(differences.std(ddof=1)) / n**0.5, n)
    flips = stats.permutation_test(
        (differences,),
        np.mean,
        permutation_type="samples",
        vectorized=True,
        n_resamples=2**14,
        rng=np.random.default_rng(0),
    )
    return Paired(
        n=n,
        difference=mean,
        t_interval=(low, high),
        bootstrap_interval=_interval(np.mean, differences),
        p_t=p,
        p_sign_flip=float(flips.pvalue),
        smallest_p=2.0 / 2**n,
    )


def t_test(mean: float, error: float, n: int) -> tuple[float, float, float]:
    """Student's interval of ``mean`` with standard error ``error`` from n seeds, and its p.

    The p is two-sided, against 0. Seeds without any spread (each solved one problem more) say
    nothing about the distance of the next seed: the interval is the mean alone, and p is that of
    the sign-flip test, which needs no spread.
    """
    # A spread below this is rounding.
    if error <= 1e-12 * max(1.0, abs(mean)):
        return mean, mean, 1.0 if abs(mean) <= 1e-12 else 2.0 / 2**n
    reach = float(stats.t.ppf(0.5 + LEVEL / 2, n - 1)) * error
    return mean - reach, mean + reach, float(2 * stats.t.sf(abs(mean) / error, n - 1))


def holm(ps: Sequence[float | None]) -> list[float | None]:
    """Holm's step-down correction of a family of p-values; None stays None and does not count."""
    known = sorted((p, i) for i, p in enumerate(ps) if p is not None)
    adjusted: list[float | None] = [None] * len(ps)
    highest = 0.0
    for rank, (p, i) in enumerate(known):
        highest = max(highest, min(1.0, p * (len(known) - rank)))
        adjusted[i] = highest
    return adjusted


def verdict(pair: Paired | None, p_holm: float | None, direction: int) -> Verdict:
    """Return the verdict on a paired difference.

    It names a side only if both intervals exclude 0, the t test stays significant after Holm's
    correction, and the exact sign-flip test agrees as far as this number of seeds allows (at its
    smallest p, all seeds point the same way).
    """
    if pair is None or pair.n < FEWEST or p_holm is None:
        return Verdict.TOO_FEW
    assert pair.t_interval and pair.bootstrap_interval
    assert pair.p_sign_flip is not None and pair.smallest_p is not None
    alpha = 1 - LEVEL
    intervals = (pair.t_interval, pair.bootstrap_interval)
    excluded = all(low > 0 or high < 0 for low, high in intervals)
    if not excluded or p_holm > alpha or pair.p_sign_flip > max(alpha, pair.smallest_p) + 1e-12:
        return Verdict.NOT_SEPARATED
    if direction == 0:
        return Verdict.HIGHER if pair.difference > 0 else Verdict.LOWER
    return Verdict.BETTER if pair.difference * direction > 0 else Verdict.WORSE


def profile(values: Sequence[float], thresholds: Array) -> tuple[Array, Array, Array]:
    """Performance profile: the share of runs above each threshold.

    Returns:
        The share, and the lower and the upper end of its interval over seeds.
    """
    above = np.asarray(values, dtype=np.float64)[:, None] > thresholds
    low, high = bootstrap(np.mean, above.astype(np.float64).T)
    return above.mean(axis=0), low, high


def as_json(result: Any) -> dict[str, Any] | None:
    """Convert a result dataclass to plain numbers."""
    return None if result is None else asdict(result)
