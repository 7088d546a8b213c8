"""The comparison of a set of runs: the numbers behind table.csv, stats.json, figures and report."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from asym_lightning.analysis.arms import Arm, group, order
from asym_lightning.analysis.frontier import Frontier, Gap, Values, frontiers, gaps
from asym_lightning.analysis.measures import Measure, main_measures, measures, value
from asym_lightning.analysis.methods import method_settings
from asym_lightning.analysis.runs import LeftOut, Run
from asym_lightning.analysis.statistics import (
    FEWEST,
    Interval,
    Paired,
    Summary,
    Verdict,
    holm,
    improvement,
    paired,
    summarise,
    verdict,
)
from asym_lightning.analysis.unequal import Inequality, inequalities, missing_seeds


@dataclass(frozen=True, eq=False)
class Result:
    """A measure of an arm: its values by seed, and the comparison with ``baseline``.

    ``baseline`` is None for a baseline, and for an arm without a baseline.
    """

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
    """All numbers of a comparison.

    ``cut`` is the number of iterations that every run has. ``opponents`` maps an arm's label to the
    arm that it is compared with.
    """

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

    @cached_property
    def labels(self) -> dict[str, str]:
        """The label of each measure."""
        return {measure.name: measure.label for measure in self.measures}

    @cached_property
    def by_arm_and_measure(self) -> dict[tuple[str, str], Result]:
        """The results by the label of an arm and the name of a measure."""
        return {(r.arm.label, r.measure.name): r for r in self.results}

    @cached_property
    def methods(self) -> dict[str, dict[str, str]]:
        """The settings of each method, where they differ."""
        return method_settings(self.arms)

    def of(self, measure: str) -> list[Result]:
        """Return the results of a measure, arm by arm."""
        return [result for result in self.results if result.measure.name == measure]


def lay_side_by_side(
    runs: Sequence[Run], left_out: Sequence[LeftOut], baseline: str | None = None
) -> Comparison:
    """Group runs into arms, cut them to equal length, measure and compare them.

    Raises:
        ComparisonError: ``baseline`` names no method or arm, or several.
    """
    grouped, duplicates = group(runs)
    arms, opponents = order(grouped, baseline)
    kept = [run for arm in arms for run in arm.runs.values()]
    cut = min(run.length for run in kept)
    candidates = measures(kept)
    values = {arm.label: {m.name: _values(arm, m.name, cut) for m in candidates} for arm in arms}
    known = [m for m in candidates if any(values[arm.label][m.name] for arm in arms)]
    main = [name for name in main_measures(known) if any(m.name == name for m in known)]
    results = [result for m in known for result in _results(arms, opponents, m, values=values)]
    fronts, frontier_gaps = _frontiers(arms, values, main, known=known)
    return Comparison(
        arms=arms,
        opponents=opponents,
        cut=cut,
        measures=known,
        main=main,
        results=results,
        frontiers=fronts,
        gaps=frontier_gaps,
        unequal=inequalities(arms),
        missing=missing_seeds(arms),
        left_out=[*left_out, *duplicates],
        notes=_notes(arms, opponents, cut, known=known, values=values),
    )


def _values(arm: Arm, name: str, cut: int) -> dict[int, float]:
    """Seed -> the measure ``name`` after ``cut`` iterations, of the runs that have it."""
    by_seed = {seed: value(run, name, cut) for seed, run in arm.runs.items()}
    return {seed: v for seed, v in by_seed.items() if v is not None}


def _results(
    arms: Sequence[Arm], opponents: dict[str, Arm | None], measure: Measure, *, values: Values
) -> list[Result]:
    """The results of a measure for every arm that has it.

    Holm's correction is over the arms compared.
    """
    measured = [arm for arm in arms if values[arm.label][measure.name]]
    direction = measure.direction
    baselines = [None if opponents[arm.label] is arm else opponents[arm.label] for arm in measured]
    own_values = [values[arm.label][measure.name] for arm in measured]
    base_values = [values[base.label][measure.name] if base else {} for base in baselines]
    pairs = [paired(own, base) for own, base in zip(own_values, base_values, strict=True)]
    corrected = holm([pair.p_t if pair and pair.n >= FEWEST else None for pair in pairs])
    results = []
    for i, arm in enumerate(measured):
        own, base = list(own_values[i].values()), list(base_values[i].values())
        results.append(
            Result(
                arm=arm,
                measure=measure,
                values=own_values[i],
                summary=summarise(own),
                baseline=baselines[i],
                paired=pairs[i],
                p_holm=corrected[i],
                improvement=improvement(own, base, direction) if base else None,
                verdict=verdict(pairs[i], corrected[i], direction) if baselines[i] else None,
            )
        )
    return results


def _frontiers(
    arms: Sequence[Arm], values: Values, main: Sequence[str], *, known: Sequence[Measure]
) -> tuple[list[Frontier], list[Gap]]:
    """Frontiers of pass@k and entropy, and their gaps, if a method has several values of a number.

    The pass@k is that of the last held-out measure in ``main``.
    """
    if not _swept_a_number(arms):
        return [], []
    held_out = [name for name in main if name.startswith("eval/")]
    directions = {measure.name: measure.direction for measure in known}
    fronts: list[Frontier] = []
    frontier_gaps: list[Gap] = []
    for name in [*held_out[-1:], *(name for name in main if name == "entropy/policy")]:
        of_measure = frontiers(arms, values, name)
        fronts += of_measure
        frontier_gaps += gaps(of_measure, values, directions[name])
    return fronts, frontier_gaps


def _swept_a_number(arms: Sequence[Arm]) -> bool:
    """Return whether a method was run with more than one value of a numeric setting."""
    numeric = {
        key
        for arm in arms
        for key, v in arm.setting.items()
        if isinstance(v, int | float) and not isinstance(v, bool)
    }
    for method in {arm.method for arm in arms}:
        settings = [arm.setting for arm in arms if arm.method == method]
        if any(len({setting.get(key) for setting in settings}) > 1 for key in numeric):
            return True
    return False


def _notes(
    arms: Sequence[Arm],
    opponents: dict[str, Arm | None],
    cut: int,
    *,
    known: Sequence[Measure],
    values: Values,
) -> list[str]:
    """Notes to read before the numbers: on length, missing baselines, few seeds, missing values."""
    notes = _length_notes([run for arm in arms for run in arm.runs.values()], cut)
    compared = [(arm, opponents[arm.label]) for arm in arms if opponents[arm.label] is not arm]
    for arm, base in compared:
        if base is None:
            notes.append(
                f"{arm.label}: the baseline has no run of the same setting, "
                "so it is compared with nothing."
            )
    shared = [len(arm.runs.keys() & base.runs.keys()) for arm, base in compared if base]
    notes += _seed_notes(shared)
    for measure in known:
        lacking = [
            arm.label for arm in arms if len(values[arm.label][measure.name]) < len(arm.runs)
        ]
        if lacking:
            notes.append(f"{measure.label}: not measured in every run of {', '.join(lacking)}.")
    return notes


def _length_notes(runs: Sequence[Run], cut: int) -> list[str]:
    notes = []
    longer = [run for run in runs if run.length > cut]
    if longer:
        lengths = ", ".join(str(n) for n in sorted({run.length for run in longer}))
        notes.append(
            f"Runs are of different length: {len(longer)} of {len(runs)} runs go on to iteration "
            f"{lengths}. All are compared after the {cut} iterations of the shortest; an "
            f"evaluation counts only where it was made after exactly {cut}."
        )
    if cut < 20:
        notes.append(
            f"With {cut} iterations, the means over the last ten say little about where a run "
            "would end."
        )
    return notes


def _seed_notes(shared: Sequence[int]) -> list[str]:
    """Notes on too few seeds. ``shared`` has the number of shared seeds of each comparison."""
    notes = []
    if shared and min(shared) < FEWEST:
        notes.append(
            f"Too few seeds: {sum(n < FEWEST for n in shared)} of {len(shared)} comparisons have "
            f"fewer than {FEWEST} shared seeds. With n of them the exact sign-flip test cannot go "
            "below p = 2/2^n (two: 0.5), so no verdict is given."
        )
    few = sorted({n for n in shared if FEWEST <= n < 6})
    if few:
        least = " and ".join(f"{2 / 2**n:g} ({n} seeds)" for n in few)
        notes.append(
            f"The exact sign-flip test cannot go below p = {least}, so a verdict here rests on the "
            "t test, that is on differences between seeds that are about normal; all seeds must "
            "also point the same way. From six shared seeds on the exact test counts in full."
        )
    return notes
