"""What a few seeds can say: intervals, paired tests, Holm's correction, and a verdict that is never more than they support.

rliable's aggregates (arXiv 2108.13264) are computed here with scipy, value for value: interquartile mean, probability of improvement,
performance profile.
"""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import stats

LEVEL = 0.95
RESAMPLES = 9999
FEWEST = 3  # shared seeds below which no verdict is given
Array = NDArray[np.float64]
Interval = tuple[float, float]


class Verdict(StrEnum):
    """Better and worse where a measure has a good side, higher and lower where it has none."""

    BETTER = "better"
    WORSE = "worse"
    HIGHER = "higher"
    LOWER = "lower"
    NOT_SEPARATED = "not separated"
    TOO_FEW = "too few seeds"


@dataclass(frozen=True)
class Summary:
    """One measure of one arm. ``interval`` is of the mean, ``iqm_interval`` of the interquartile mean; None with fewer than two."""

    n: int
    mean: float
    std: float | None
    interval: Interval | None
    iqm: float
    iqm_interval: Interval | None


@dataclass(frozen=True)
class Paired:
    """An arm minus its baseline over the n seeds that both have.

    ``t_interval`` and ``p_t`` are Student's (differences about normal); ``bootstrap_interval`` resamples seeds and is too narrow for
    a handful of them; ``p_sign_flip`` is exact without any assumption but a symmetric one, and never below ``smallest_p``.
    """

    n: int
    difference: float
    t_interval: Interval | None
    bootstrap_interval: Interval | None
    p_t: float | None
    p_sign_flip: float | None
    smallest_p: float | None


def summarise(values: Sequence[float]) -> Summary:
    """Mean, sample standard deviation and interquartile mean of one value per seed, with bootstrap intervals."""
    x = np.asarray(values, dtype=np.float64)
    many = len(x) > 1
    return Summary(
        len(x),
        float(x.mean()),
        float(x.std(ddof=1)) if many else None,
        bootstrap(np.mean, x) if many else None,
        iqm(x),
        bootstrap(iqm_along, x) if many else None,
    )


def iqm_along(x: Array, axis: int = -1) -> Array:
    """Mean of what is left when the lowest and highest quarter (rounded down) are cut off: below four values the mean."""
    return stats.trim_mean(x, 0.25, axis=axis)


def iqm(x: Array) -> float:
    return float(iqm_along(x))


def bootstrap(statistic: Callable[..., Any], *samples: Array) -> Interval:
    """Percentile interval over resampled seeds; the same samples always give the same interval."""
    generator = np.random.default_rng(0)
    found = stats.bootstrap(
        samples, statistic, n_resamples=RESAMPLES, vectorized=True, axis=-1, confidence_level=LEVEL, method="percentile", rng=generator
    ).confidence_interval
    return float(found.low), float(found.high)


def improvement_along(x: Array, y: Array, axis: int = -1) -> Array:
    """Probability that a run of ``x`` lies above a run of ``y``, ties counted half: the Mann-Whitney U over all pairs."""
    return (0.5 + 0.5 * np.sign(x[..., :, None] - y[..., None, :])).mean(axis=(-2, -1))


def improvement(x: Sequence[float], y: Sequence[float], direction: int = 1) -> tuple[float, Interval | None]:
    """Probability that a run of ``x`` is better than one of ``y`` (above it where there is no better), with its interval."""
    a, b = (np.asarray(v, dtype=np.float64) * (-1 if direction < 0 else 1) for v in (x, y))
    return float(improvement_along(a, b)), bootstrap(improvement_along, a, b) if min(len(a), len(b)) > 1 else None


def paired(values: dict[int, float], baseline: dict[int, float]) -> Paired | None:
    """Compare two arms over the seeds that both have; None where there is none."""
    seeds = sorted(values.keys() & baseline.keys())
    if not seeds:
        return None
    d = np.array([values[s] - baseline[s] for s in seeds])
    n, mean = len(d), float(d.mean())
    if n < 2:
        return Paired(n, mean, None, None, None, None, None)
    low, high, p = t_test(mean, float(d.std(ddof=1)) / n**0.5, n)
    flips = stats.permutation_test(
        (d,), _mean, permutation_type="samples", vectorized=True, n_resamples=2**14, rng=np.random.default_rng(0)
    )
    return Paired(n, mean, (low, high), bootstrap(np.mean, d), p, float(flips.pvalue), 2.0 / 2**n)


def t_test(mean: float, error: float, n: int) -> tuple[float, float, float]:
    """Student's interval of ``mean`` with standard error ``error`` from n seeds, and its two-sided p against 0.

    Seeds without any spread (each solved one problem more) say nothing of how far the next would lie: the interval is the mean alone,
    and p that of the sign-flip test, which needs none.
    """
    if error <= 1e-12 * max(1.0, abs(mean)):  # no spread at all but that of rounding
        return mean, mean, 1.0 if abs(mean) <= 1e-12 else 2.0 / 2**n
    reach = float(stats.t.ppf(0.5 + LEVEL / 2, n - 1)) * error
    return mean - reach, mean + reach, float(2 * stats.t.sf(abs(mean) / error, n - 1))


def _mean(x: Array, axis: int) -> Array:
    return x.mean(axis=axis)


def holm(ps: Sequence[float | None]) -> list[float | None]:
    """Holm's step-down correction of the p-values of one family; None stays None and does not count."""
    known = sorted((p, i) for i, p in enumerate(ps) if p is not None)
    adjusted: list[float | None] = [None] * len(ps)
    highest = 0.0
    for rank, (p, i) in enumerate(known):
        highest = max(highest, min(1.0, p * (len(known) - rank)))
        adjusted[i] = highest
    return adjusted


def verdict(found: Paired | None, p_holm: float | None, direction: int) -> Verdict:
    """What may be said: a side only where both intervals exclude 0, the t test stands after Holm's correction, and the exact
    sign-flip test agrees as far as so many seeds let it (at its smallest p, all seeds point the same way)."""
    if found is None or found.n < FEWEST or p_holm is None:
        return Verdict.TOO_FEW
    assert found.t_interval and found.bootstrap_interval and found.p_sign_flip is not None and found.smallest_p is not None
    alpha = 1 - LEVEL
    excluded = all(low > 0 or high < 0 for low, high in (found.t_interval, found.bootstrap_interval))
    if not excluded or p_holm > alpha or found.p_sign_flip > max(alpha, found.smallest_p) + 1e-12:
        return Verdict.NOT_SEPARATED
    if direction == 0:
        return Verdict.HIGHER if found.difference > 0 else Verdict.LOWER
    return Verdict.BETTER if found.difference * direction > 0 else Verdict.WORSE


def profile(values: Sequence[float], thresholds: Array) -> tuple[Array, Array, Array]:
    """Performance profile: share of runs above each threshold, with the lower and upper end of its interval over seeds."""
    above = np.asarray(values, dtype=np.float64)[:, None] > thresholds
    low, high = band(above.astype(np.float64))
    return above.mean(axis=0), low, high


def band(curves: Array, resamples: int = 500) -> tuple[Array, Array]:
    """Percentile interval of the mean curve over resampled seeds; ``curves`` is [seeds, points]."""
    n = len(curves)
    draws = np.random.default_rng(0).integers(0, n, (resamples, n))
    weights = np.stack([(draws == i).sum(axis=1) for i in range(n)], axis=1) / n
    low, high = np.quantile(weights @ curves, [0.5 - LEVEL / 2, 0.5 + LEVEL / 2], axis=0)
    return low, high


def as_json(found: Any) -> dict[str, Any] | None:
    """A result as plain numbers."""
    return None if found is None else asdict(found)
