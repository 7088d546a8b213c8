"""What a method reaches at a given reward, over all settings tried: one learning rate can make any method look better.

The frontier of a method is a function of the reward r: the highest y (held-out pass@k, entropy) of the settings whose reward is at
least r. Its points are means over seeds; between two neighbouring points of the frontier it is a straight line.

Where one frontier lies above another is judged over thirds of the range that both cover, not reward by reward. Of two methods that do not
differ, with the noise of the study's seeds (`benchmarks/frontier_size.py`: 18 kinds of comparison with 3, 5 or 10 seeds), 5% have some
third called (2.7% to 6.6%), as many have the mean gap (2.5% to 6.0%), and at most 0.1% a crossing. Student's intervals at single
rewards would call 45% to 91% of them, and 5% to 38% a crossing: many rewards are looked at, and at the two ends of the range, which the
runs set, up to 60% of intervals miss.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby

import numpy as np
from scipy import stats

from asym_lightning.analysis.arms import Arm
from asym_lightning.analysis.statistics import LEVEL, Array, Paired, Verdict, holm, paired, verdict

GRID = 101
PARTS = 3  # of the common range
RESAMPLES = 500
Range = tuple[float, float]
Values = Mapping[str, Mapping[str, dict[int, float]]]  # arm label -> measure -> seed -> value


@dataclass(frozen=True, eq=False)
class Frontier:
    """A method's frontier of ``measure``: its settings' mean ``points`` [settings, (reward, y)], the curve on ``grid`` with a
    band of resampled seeds (None with one seed)."""

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
    """Frontier of ``method`` minus that of ``baseline`` over the rewards that both cover (``grid`` empty where they do not).

    ``mean`` compares the two by the mean gap over the common range, and ``p_holm`` and ``verdict`` (None without such a range) speak of
    it. ``above`` and ``below`` are the thirds of that range whose mean gap stands by the same rule, corrected for their number; frontiers
    that cross, above over one third and below over another, are not separated. ``interval`` is Student's at each reward by itself: for
    pictures, no verdict. ``settings`` are the numbers of settings behind the two: of more tries the best lies higher by chance.
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
    """The frontier of ``points`` [settings, (reward, y)] at ``rewards``; above the highest reward the last value is held."""
    ordered = points[np.lexsort((points[:, 1], points[:, 0]))]
    best = np.maximum.accumulate(ordered[::-1, 1])[::-1]  # the highest y at this reward or a higher one
    on = np.append(ordered[:-1, 1] > best[1:], True)
    return np.interp(rewards, ordered[on, 0], ordered[on, 1])


def frontiers(arms: Sequence[Arm], values: Values, measure: str) -> list[Frontier]:
    """The frontier of ``measure`` against reward for every method that has both at some seed in all of its settings."""
    found = []
    for method, group in groupby(arms, key=lambda arm: arm.method):
        labels = [arm.label for arm in group]
        cube, seeds = _cube(labels, values, measure)
        if not seeds:
            continue
        points = cube.mean(axis=0)
        grid = np.linspace(points[:, 0].min(), points[:, 0].max(), GRID)
        draws = np.random.default_rng(0).integers(0, len(seeds), (RESAMPLES, len(seeds)))
        curves = np.stack([reached(cube[draw].mean(axis=0), grid) for draw in draws]) if len(seeds) > 1 else None
        band = None if curves is None else tuple(np.quantile(curves, [0.5 - LEVEL / 2, 0.5 + LEVEL / 2], axis=0))
        found.append(Frontier(method, measure, labels, seeds, points, grid, reached(points, grid), band))  # type: ignore[arg-type]
    return found


def _cube(labels: Sequence[str], values: Values, measure: str) -> tuple[Array, list[int]]:
    """[seeds, settings, (reward, y)] over the seeds that have both in all settings."""
    per_arm = [(values[label].get("reward/mean", {}), values[label].get(measure, {})) for label in labels]
    seeds = sorted(set.intersection(*(set(x) & set(y) for x, y in per_arm)))
    return np.array([[(x[s], y[s]) for x, y in per_arm] for s in seeds]), seeds


def gaps(found: Sequence[Frontier], values: Values, direction: int) -> list[Gap]:
    """Every later frontier against the first one, corrected for their number; methods with one setting have no frontier."""
    several = [f for f in found if len(f.labels) > 1]
    if len(several) < 2 or several[0] is not found[0]:
        return []
    raw = [_gap(f, several[0], values) for f in several[1:]]
    corrected = holm([gap.mean.p_t if gap.mean else None for gap in raw])
    return [_judged(gap, p, direction) for gap, p in zip(raw, corrected, strict=True)]


def _gap(own: Frontier, base: Frontier, values: Values) -> Gap:
    cube, seeds = _cube([*own.labels, *base.labels], values, own.measure)
    split = len(own.labels)
    who = (own.method, base.method, (split, len(base.labels)), own.measure, seeds)
    low, high = max(own.range[0], base.range[0]), min(own.range[1], base.range[1])
    empty = np.empty(0)
    if low > high or not seeds:
        return Gap(*who, empty, empty, None, [], [], None, None, None, "")
    grid = np.linspace(low, high, GRID)

    def between(part: Array) -> Array:
        mean = part.mean(axis=0)
        return reached(mean[:split], grid) - reached(mean[split:], grid)

    gap, n = between(cube), len(seeds)
    if n < 2:
        return Gap(*who, grid, gap, None, [], [], None, None, None, "")
    # Jackknife pseudo-values: what each seed adds; their t interval is that of the frontier, which is no mean itself.
    pseudo = np.stack([n * gap - (n - 1) * between(np.delete(cube, i, axis=0)) for i in range(n)])
    middle, reach = pseudo.mean(axis=0), stats.t.ppf(0.5 + LEVEL / 2, n - 1) * pseudo.std(axis=0, ddof=1) / n**0.5
    mean = _over(seeds, pseudo)
    above, below = _ranges(low, high, [_over(seeds, part) for part in np.array_split(pseudo, PARTS, axis=1)])
    return Gap(*who, grid, gap, (middle - reach, middle + reach), above, below, mean, None, None, "")


def _over(seeds: Sequence[int], pseudo: Array) -> Paired | None:
    """The mean gap over a part of the grid, from the pseudo-values [seeds, rewards] there."""
    return paired(dict(zip(seeds, pseudo.mean(axis=1).tolist(), strict=True)), dict.fromkeys(seeds, 0.0))


def _ranges(low: float, high: float, parts: Sequence[Paired | None]) -> tuple[list[Range], list[Range]]:
    """Where the mean gap over equal parts of the range stands above 0, and where below; neighbours are joined."""
    ends = np.linspace(low, high, len(parts) + 1).tolist()
    corrected = holm([part.p_t if part else None for part in parts])
    said = [verdict(part, p, 0) for part, p in zip(parts, corrected, strict=True)]
    found: dict[Verdict, list[Range]] = {Verdict.HIGHER: [], Verdict.LOWER: []}
    for side, group in groupby(range(len(parts)), key=lambda i: said[i]):
        if side in found:
            members = list(group)
            found[side].append((ends[members[0]], ends[members[-1] + 1]))
    return found[Verdict.HIGHER], found[Verdict.LOWER]


def _judged(gap: Gap, p_holm: float | None, direction: int) -> Gap:
    said = verdict(gap.mean, p_holm, direction) if gap.grid.size else None
    if gap.above and gap.below:  # they cross: whatever the mean gap, neither is above the other
        said = Verdict.NOT_SEPARATED
    return Gap(**{**vars(gap), "p_holm": p_holm, "verdict": said, "statement": _statement(gap, said)})


def _statement(gap: Gap, said: Verdict | None) -> str:
    pair = f"{gap.method} against {gap.baseline}"
    if not gap.seeds:
        return f"{pair}: no seed is in all of their settings, so their frontiers cannot be compared."
    if not gap.grid.size:
        return f"{pair}: their ranges of reward do not overlap, so neither frontier is above the other; sweep further."
    span = f"reward {gap.grid[0]:.3f} to {gap.grid[-1]:.3f}, which both cover"
    if gap.mean is None or gap.mean.t_interval is None or said is Verdict.TOO_FEW:
        return f"{pair}: over {span}, the mean gap is {gap.gap.mean():+.3f}; too few shared seeds ({len(gap.seeds)}) for a verdict."
    low, high = gap.mean.t_interval
    crossing = ", the frontiers cross" if gap.above and gap.below else ""
    words = [f"{pair}: {said}{crossing}. Over {span}, the mean gap is {gap.mean.difference:+.3f} (95% interval {low:+.3f} to {high:+.3f})"]
    for side, ranges in (("above", gap.above), ("below", gap.below)):
        if ranges:
            words.append(f"by thirds of this range: {side} from {' and from '.join(f'{a:.3f} to {b:.3f}' for a, b in ranges)}")
    if not gap.above and not gap.below:
        words.append("in no third of this range separated")
    if gap.settings[0] != gap.settings[1]:
        words.append(f"{gap.settings[0]} settings against {gap.settings[1]}, and of more tries the best lies higher by chance")
    return "; ".join(words) + "."
