"""Frontiers: the best that a method reaches at a given reward, over all of its settings.

Comparing methods at one setting misleads: one learning rate can make any method look better. The
frontier of a method is a function of the reward r: the highest y (held-out pass@k, entropy) of the
settings whose reward is at least r. Its points are means over seeds; between two neighbouring
points of the frontier it is a straight line.

Two frontiers are compared over thirds of the range that both cover, not reward by reward. For two
equal methods with the noise of the study's seeds (`benchmarks/frontier_size.py`: 18 kinds of
comparison with 3, 5 or 10 seeds), the share of comparisons with a verdict for some third is 5%
(2.7% to 6.6%), the share with a verdict for the mean gap is as large (2.5% to 6.0%), and the share
with a crossing is at most 0.1%. Student's intervals at single rewards would give a verdict in 45%
to 91% of them and a crossing in 5% to 38%, because many rewards are looked at, and because up to
60% of intervals miss at the two ends of the range, which depend on the runs.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import groupby

import numpy as np
from scipy import stats

from asym_lightning.analysis.arms import Arm
from asym_lightning.analysis.statistics import Paired, Verdict, holm, paired, verdict
from asym_lightning.metrics.bootstrap import LEVEL, Array, bootstrap

GRID = 101  # rewards at which a frontier is computed
PARTS = 3  # of the common range
RESAMPLES = 500
Range = tuple[float, float]
Values = Mapping[str, Mapping[str, dict[int, float]]]  # arm label -> measure -> seed -> value


@dataclass(frozen=True, eq=False)
class Frontier:
    """A method's frontier of ``measure``.

    ``points`` are the means of its settings: [settings, (reward, y)]. ``curve`` is the frontier on
    ``grid``, and ``band`` its interval over resampled seeds (None with a single seed).
    """

    method: str
    measure: str
    labels: list[str]
    seeds: list[int]
    points: Array
    grid: Array
    curve: Array
    band: tuple[Array, Array] | None

    @property
    def range(self) -> Range:
        """Lowest and highest mean reward of the settings."""
        return float(self.points[:, 0].min()), float(self.points[:, 0].max())


@dataclass(frozen=True, eq=False)
class Gap:
    """Frontier of ``method`` minus that of ``baseline`` over the rewards that both cover.

    ``grid`` holds these rewards; it is empty if the ranges do not overlap. ``mean`` is the mean
    gap over this common range; ``p_holm`` and ``verdict`` are about it. Without a common range
    each is None, ``mean`` and ``p_holm`` also with fewer than two shared seeds. ``above`` and
    ``below`` are the thirds of the range whose mean gap has a verdict by the same rule, corrected
    for the number of thirds. Frontiers that cross, above over one third and below over another,
    are not separated. ``interval`` is Student's at each reward by itself: it
    is for pictures and supports no verdict. ``settings`` are the numbers of settings of the two
    methods: the best of more settings is higher by chance.
    """

    method: str
    baseline: str
    settings: tuple[int, int]
    measure: str
    seeds: list[int]
    grid: Array
    gap: Array
    interval: tuple[Array, Array] | None
    above: list[Range]
    below: list[Range]
    mean: Paired | None
    p_holm: float | None
    verdict: Verdict | None
    statement: str


def reached(points: Array, rewards: Array) -> Array:
    """Evaluate the frontier of ``points`` [settings, (reward, y)] at ``rewards``.

    Above the highest reward the last value is held.
    """
    ordered = points[np.lexsort((points[:, 1], points[:, 0]))]
    # The highest y at each point's reward or a higher one.
    best = np.maximum.accumulate(ordered[::-1, 1])[::-1]
    on_frontier = np.append(ordered[:-1, 1] > best[1:], True)
    return np.interp(rewards, ordered[on_frontier, 0], ordered[on_frontier, 1])


def frontiers(arms: Sequence[Arm], values: Values, measure: str) -> list[Frontier]:
    """Return the frontier of ``measure`` for each method.

    A method needs a seed with both reward and ``measure`` in all of its settings.
    """
    fronts = []
    for method, group in groupby(arms, key=lambda arm: arm.method):
        labels = [arm.label for arm in group]
        cube, seeds = _cube(labels, values, measure)
        if not seeds:
            continue
        points = cube.mean(axis=0)
        grid = np.linspace(points[:, 0].min(), points[:, 0].max(), GRID)
        fronts.append(
            Frontier(
                method=method,
                measure=measure,
                labels=labels,
                seeds=seeds,
                points=points,
                grid=grid,
                curve=reached(points, grid),
                band=_band(cube, grid),
            )
        )
    return fronts


def _cube(labels: Sequence[str], values: Values, measure: str) -> tuple[Array, list[int]]:
    """[seeds, settings, (reward, y)] over seeds that have both in all settings, and these seeds."""
    rewards = [values[label].get("reward/mean", {}) for label in labels]
    ys = [values[label].get(measure, {}) for label in labels]
    per_arm = list(zip(rewards, ys, strict=True))
    seeds = sorted(set.intersection(*(set(x) & set(y) for x, y in per_arm)))
    return np.array([[(x[seed], y[seed]) for x, y in per_arm] for seed in seeds]), seeds


def _band(cube: Array, grid: Array) -> tuple[Array, Array] | None:
    """The interval of the frontier over resampled seeds; ``cube`` is [seeds, settings, 2]."""
    if len(cube) < 2:
        return None

    def curves(resampled: Array, axis: int) -> Array:
        points = np.moveaxis(resampled.mean(axis=axis), -1, 0)
        return np.stack([reached(point, grid) for point in points], axis=-1)

    # [settings, 2, seeds]: a seed is resampled with all of its runs.
    return bootstrap(curves, np.moveaxis(cube, 0, -1), resamples=RESAMPLES)


def gaps(fronts: Sequence[Frontier], values: Values, direction: int) -> list[Gap]:
    """Compare each later frontier with the first, corrected for the number of comparisons.

    Methods with a single setting have no frontier to compare.
    """
    several = [front for front in fronts if len(front.labels) > 1]
    if len(several) < 2 or several[0] is not fronts[0]:
        return []
    raw = [_gap(front, several[0], values) for front in several[1:]]
    corrected = holm([gap.mean.p_t if gap.mean else None for gap in raw])
    return [_judged(gap, p, direction) for gap, p in zip(raw, corrected, strict=True)]


def _gap(front: Frontier, base: Frontier, values: Values) -> Gap:
    """The gap between two frontiers, without verdict and statement."""
    cube, seeds = _cube([*front.labels, *base.labels], values, front.measure)
    split, n = len(front.labels), len(seeds)
    empty = np.empty(0)
    without_range = Gap(
        method=front.method,
        baseline=base.method,
        settings=(split, len(base.labels)),
        measure=front.measure,
        seeds=seeds,
        grid=empty,
        gap=empty,
        interval=None,
        above=[],
        below=[],
        mean=None,
        p_holm=None,
        verdict=None,
        statement="",
    )
    low, high = max(front.range[0], base.range[0]), min(front.range[1], base.range[1])
    if low > high or not seeds:
        return without_range
    grid = np.linspace(low, high, GRID)

    def between(part: Array) -> Array:
        mean = part.mean(axis=0)
        return reached(mean[:split], grid) - reached(mean[split:], grid)

    gap = between(cube)
    if n < 2:
        return replace(without_range, grid=grid, gap=gap)
    # Jackknife pseudo-values: the contribution of each seed. The frontier is not a mean itself; the
    # t interval of the pseudo-values is that of the frontier.
    pseudo = np.stack([n * gap - (n - 1) * between(np.delete(cube, i, axis=0)) for i in range(n)])
    middle = pseudo.mean(axis=0)
    reach = stats.t.ppf(0.5 + LEVEL / 2, n - 1) * pseudo.std(axis=0, ddof=1) / n**0.5
    parts = [_mean_gap(seeds, part) for part in np.array_split(pseudo, PARTS, axis=1)]
    above, below = _ranges(low, high, parts)
    return replace(
        without_range,
        grid=grid,
        gap=gap,
        interval=(middle - reach, middle + reach),
        above=above,
        below=below,
        mean=_mean_gap(seeds, pseudo),
    )


def _mean_gap(seeds: Sequence[int], pseudo: Array) -> Paired | None:
    """The mean gap over a part of the grid, from its pseudo-values [seeds, rewards]."""
    means = dict(zip(seeds, pseudo.mean(axis=1).tolist(), strict=True))
    return paired(means, dict.fromkeys(seeds, 0.0))


def _ranges(
    low: float, high: float, parts: Sequence[Paired | None]
) -> tuple[list[Range], list[Range]]:
    """Return the ranges with a mean gap above 0 and those with one below, by their verdicts.

    ``parts`` are the mean gaps over equal parts of the range; neighbours with the same verdict are
    joined.
    """
    ends = np.linspace(low, high, len(parts) + 1).tolist()
    corrected = holm([part.p_t if part else None for part in parts])
    verdicts = [verdict(part, p, 0) for part, p in zip(parts, corrected, strict=True)]
    ranges: dict[Verdict, list[Range]] = {Verdict.HIGHER: [], Verdict.LOWER: []}
    for side, group in groupby(range(len(parts)), key=lambda i: verdicts[i]):
        if side in ranges:
            members = list(group)
            ranges[side].append((ends[members[0]], ends[members[-1] + 1]))
    return ranges[Verdict.HIGHER], ranges[Verdict.LOWER]


def _judged(gap: Gap, p_holm: float | None, direction: int) -> Gap:
    """The gap with its verdict and statement."""
    judgement = verdict(gap.mean, p_holm, direction) if gap.grid.size else None
    if gap.above and gap.below:
        # The frontiers cross: neither is above the other, for any mean gap.
        judgement = Verdict.NOT_SEPARATED
    statement = _statement(gap, judgement)
    return replace(gap, p_holm=p_holm, verdict=judgement, statement=statement)


def _statement(gap: Gap, judgement: Verdict | None) -> str:
    """The comparison in one sentence or two, for the report and the terminal."""
    pair = f"{gap.method} against {gap.baseline}"
    if not gap.seeds:
        return (
            f"{pair}: no seed is in all of their settings, so their frontiers cannot be compared."
        )
    if not gap.grid.size:
        return (
            f"{pair}: their ranges of reward do not overlap, so neither frontier is above the "
            "other; sweep further."
        )
    span = f"reward {gap.grid[0]:.3f} to {gap.grid[-1]:.3f}, which both cover"
    if gap.mean is None or gap.mean.t_interval is None or judgement is Verdict.TOO_FEW:
        return (
            f"{pair}: over {span}, the mean gap is {gap.gap.mean():+.3f}; too few shared seeds "
            f"({len(gap.seeds)}) for a verdict."
        )
    low, high = gap.mean.t_interval
    crossing = ", the frontiers cross" if gap.above and gap.below else ""
    words = [
        f"{pair}: {judgement}{crossing}. Over {span}, the mean gap is {gap.mean.difference:+.3f} "
        f"(95% interval {low:+.3f} to {high:+.3f})"
    ]
    for side, ranges in (("above", gap.above), ("below", gap.below)):
        if ranges:
            spans = " and from ".join(f"{start:.3f} to {end:.3f}" for start, end in ranges)
            words.append(f"by thirds of this range: {side} from {spans}")
    if not gap.above and not gap.below:
        words.append("in no third of this range separated")
    if gap.settings[0] != gap.settings[1]:
        words.append(
            f"{gap.settings[0]} settings against {gap.settings[1]}, and of more tries the best "
            "lies higher by chance"
        )
    return "; ".join(words) + "."
