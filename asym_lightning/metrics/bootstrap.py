"""Percentile bootstrap intervals of problems, seeds and curves, by scipy."""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import stats

Array = NDArray[np.float64]

LEVEL = 0.95
RESAMPLES = 9999
# Numbers of a resampled sample that are held at a time.
_BATCH = 1 << 24


def bootstrap(
    statistic: Callable[..., Any], *samples: Array, resamples: int = RESAMPLES
) -> tuple[Array, Array]:
    """Return the lower and the upper end of the 95% percentile interval of ``statistic``.

    The last axis of a sample is resampled: it counts what was drawn, problems or seeds. Other
    axes stay together: a problem is resampled with all its metrics, a seed with its whole curve.
    Several samples are resampled independently. The random seed is fixed, so that the same samples
    always give the same interval; of a single draw both ends are its value.

    Args:
        statistic: reduces the last axis of the samples; called with ``axis=-1``.
        samples: [..., draws] each.
        resamples: how many to take.
    """
    if all(sample.shape[-1] == 1 for sample in samples):
        value = np.asarray(statistic(*samples, axis=-1))
        return value, value
    interval = stats.bootstrap(
        samples,
        statistic,
        n_resamples=resamples,
        batch=max(1, _BATCH // max(sample.size for sample in samples)),
        vectorized=True,
        axis=-1,
        confidence_level=LEVEL,
        method="percentile",
        rng=np.random.default_rng(0),
    ).confidence_interval
    return np.asarray(interval.low), np.asarray(interval.high)
