"""Everything that is known of a set of runs, side by side: the numbers behind table.csv, stats.json, figures and report."""

from collections.abc import Sequence
from dataclasses import dataclass

from asym_lightning.analysis.arms import Arm, Inequality, group, inequalities, missing_seeds, order
from asym_lightning.analysis.frontier import Frontier, Gap, Values, frontiers, gaps
from asym_lightning.analysis.measures import Measure, main_measures, measures, value
from asym_lightning.analysis.methods import method_settings
from asym_lightning.analysis.runs import LeftOut, Run
from asym_lightning.analysis.statistics import FEWEST, Interval, Paired, Summary, Verdict, holm, improvement, paired, summarise, verdict


@dataclass(frozen=True, eq=False)
class Result:
    """One measure of one arm: its values by seed, and how it compares with ``baseline`` (None: it is one, or has none)."""

    arm: Arm
    measure: Measure
    values: dict[int, float]
    summary: Summary
    baseline: Arm | None
    paired: Paired | None
    p_holm: float | None
    improvement: tuple[float, Interval | None] | None
    verdict: Verdict | None


@dataclass(frozen=True, eq=False)
class Comparison:
    """``cut`` is the number of iterations that every run has; ``opponents`` maps an arm's label to the arm it is compared with."""

    arms: list[Arm]
    opponents: dict[str, Arm | None]
    cut: int
    measures: list[Measure]
    main: list[str]
    results: list[Result]
    frontiers: list[Frontier]
    gaps: list[Gap]
    unequal: list[Inequality]
    missing: dict[str, list[int]]
    left_out: list[LeftOut]
    notes: list[str]

    @property
    def runs(self) -> list[Run]:
        return [run for arm in self.arms for run in arm.runs.values()]

    @property
    def baselines(self) -> list[Arm]:
        return [arm for arm in self.arms if self.opponents[arm.label] is arm]

    @property
    def methods(self) -> dict[str, dict[str, str]]:
        """The settings of each method, where they differ."""
        return method_settings(self.arms)

    def of(self, measure: str) -> list[Result]:
        """The results of one measure, arm by arm."""
        return [result for result in self.results if result.measure.name == measure]


def lay_side_by_side(runs: Sequence[Run], left_out: Sequence[LeftOut], baseline: str | None = None) -> Comparison:
    """Group, cut to equal length, measure, compare.

    Raises:
        Refused: ``baseline`` names no method or arm, or several.
    """
    found, doubled = group(runs)
    arms, opponents = order(found, baseline)
    kept = [run for arm in arms for run in arm.runs.values()]
    cut = min(run.length for run in kept)
    everything = measures(kept)
    values = {arm.label: {m.name: _values(arm, m.name, cut) for m in everything} for arm in arms}
    known = [m for m in everything if any(values[arm.label][m.name] for arm in arms)]
    main = [name for name in main_measures(known) if any(m.name == name for m in known)]
    results = [result for m in known for result in _results(arms, opponents, m, values)]
    fronts, between = _frontiers(arms, values, main, known)
    notes = _notes(arms, opponents, cut, known, values)
    return Comparison(
        arms,
        opponents,
        cut,
        known,
        main,
        results,
        fronts,
        between,
        inequalities(arms),
        missing_seeds(arms),
        [*left_out, *doubled],
        notes,
    )


def _values(arm: Arm, name: str, cut: int) -> dict[int, float]:
    found = {seed: value(run, name, cut) for seed, run in arm.runs.items()}
    return {seed: v for seed, v in found.items() if v is not None}


def _results(arms: Sequence[Arm], opponents: dict[str, Arm | None], measure: Measure, values: Values) -> list[Result]:
    """One measure of every arm that has it; Holm's correction is over the arms compared."""
    present = [arm for arm in arms if values[arm.label][measure.name]]
    baselines = [None if opponents[arm.label] is arm else opponents[arm.label] for arm in present]
    own = [values[arm.label][measure.name] for arm in present]
    other = [values[b.label][measure.name] if b else {} for b in baselines]
    pairs = [paired(x, y) for x, y in zip(own, other, strict=True)]
    corrected = holm([p.p_t if p and p.n >= FEWEST else None for p in pairs])
    results = []
    for arm, base, x, y, pair, p in zip(present, baselines, own, other, pairs, corrected, strict=True):
        better = improvement(list(x.values()), list(y.values()), measure.direction) if y else None
        said = verdict(pair, p, measure.direction) if base else None
        results.append(Result(arm, measure, x, summarise(list(x.values())), base, pair, p, better, said))
    return results


def _frontiers(arms: Sequence[Arm], values: Values, main: Sequence[str], known: Sequence[Measure]) -> tuple[list[Frontier], list[Gap]]:
    """Frontiers of pass@k and entropy, where any method was run with more than one value of a number."""
    numeric = {key for arm in arms for key, v in arm.setting.items() if isinstance(v, int | float) and not isinstance(v, bool)}
    if not any(len({arm.setting.get(key) for arm in arms if arm.method == m}) > 1 for key in numeric for m in {a.method for a in arms}):
        return [], []
    fronts: list[Frontier] = []
    between: list[Gap] = []
    for name in [n for n in main if n.startswith("eval/")][-1:] + [n for n in main if n == "entropy/policy"]:
        found = frontiers(arms, values, name)
        fronts += found
        between += gaps(found, values, next(m.direction for m in known if m.name == name))
    return fronts, between


def _notes(arms: Sequence[Arm], opponents: dict[str, Arm | None], cut: int, known: Sequence[Measure], values: Values) -> list[str]:
    """What a reader must know before the numbers."""
    notes = []
    runs = [run for arm in arms for run in arm.runs.values()]
    longer = [run for run in runs if run.length > cut]
    if longer:
        lengths = ", ".join(str(n) for n in sorted({run.length for run in longer}))
        notes.append(
            f"Runs are of different length: {len(longer)} of {len(runs)} runs go on to iteration {lengths}. All are compared after the "
            f"{cut} iterations of the shortest; an evaluation counts only where it was made after exactly {cut}."
        )
    if cut < 20:
        notes.append(f"With {cut} iterations, the means over the last ten say little about where a run would end.")
    compared = [(arm, opponents[arm.label]) for arm in arms if opponents[arm.label] is not arm]
    for arm, base in compared:
        if base is None:
            notes.append(f"{arm.label}: the baseline has no run of the same setting, so it is compared with nothing.")
    shared = [len(arm.runs.keys() & base.runs.keys()) for arm, base in compared if base]
    if shared and min(shared) < FEWEST:
        notes.append(
            f"Too few seeds: {sum(n < FEWEST for n in shared)} of {len(shared)} comparisons have fewer than {FEWEST} shared seeds. "
            f"With n of them the exact sign-flip test cannot go below p = 2/2^n (two: 0.5), so no verdict is given."
        )
    few = sorted({n for n in shared if FEWEST <= n < 6})
    if few:
        least = " and ".join(f"{2 / 2**n:g} ({n} seeds)" for n in few)
        notes.append(
            f"The exact sign-flip test cannot go below p = {least}, so a verdict here rests on the t test, that is on differences between "
            "seeds that are about normal; all seeds must also point the same way. From six shared seeds on the exact test counts in full."
        )
    for m in known:
        lacking = [arm.label for arm in arms if len(values[arm.label][m.name]) < len(arm.runs)]
        if lacking:
            notes.append(f"{m.label}: not measured in every run of {', '.join(lacking)}.")
    return notes
