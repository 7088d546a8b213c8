"""Judge claims by the rows of a study: a number per seed, its interval, and a cautious verdict."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
import pandas as pd

from asym_lightning.analysis.arms import Arm
from asym_lightning.analysis.frontier import Frontier, Gap, frontiers, gaps
from asym_lightning.analysis.statistics import FEWEST, Paired, Verdict, holm, paired, verdict
from benchmarks.study.plan import RATES

Selection = Mapping[str, object]  # column -> the value that a row must have


class Ruling(StrEnum):
    HOLDS = "holds"
    DOES_NOT_HOLD = "does not hold"
    NOT_SEPARATED = "not separated"
    TOO_FEW = "too few seeds"
    NOT_RUN = "not run"


@dataclass(frozen=True)
class Finding:
    """The number that a claim is judged by, seed by seed, and where it was taken.

    ``crossing``: two frontiers that cross.
    """

    paired: Paired | None
    remark: str = ""
    crossing: bool = False


@dataclass(frozen=True)
class Claim:
    """A sentence that a number can contradict.

    Args:
        sentence: what is claimed.
        measure: what is compared, in words.
        expected: 1 where the claim says that the number is above 0, -1 below.
        find: the number, from the rows of all runs.
    """

    sentence: str
    measure: str
    expected: int
    find: Callable[[pd.DataFrame], Finding]


@dataclass(frozen=True)
class Ruled:
    claim: Claim
    finding: Finding
    p_holm: float | None
    ruling: Ruling


def rule(claims: Sequence[Claim], rows: pd.DataFrame) -> list[Ruled]:
    """Judge a family of claims.

    Holm's correction also counts the claims that are still to be run, so that no verdict depends on
    the time of asking.
    """
    found = [claim.find(rows) for claim in claims]
    tested = [f.paired.p_t if f.paired and f.paired.n >= FEWEST else None for f in found]
    corrected = [
        q if p is not None else None
        for p, q in zip(tested, holm([1.0 if p is None else p for p in tested]), strict=True)
    ]
    return [
        Ruled(c, f, p, _ruling(c, f, p)) for c, f, p in zip(claims, found, corrected, strict=True)
    ]


def _ruling(claim: Claim, finding: Finding, p: float | None) -> Ruling:
    if finding.paired is None:
        return Ruling.NOT_RUN
    said = verdict(finding.paired, p, claim.expected)
    if said is Verdict.TOO_FEW:
        return Ruling.TOO_FEW
    if finding.crossing or said is Verdict.NOT_SEPARATED:
        return Ruling.NOT_SEPARATED
    return Ruling.HOLDS if said is Verdict.BETTER else Ruling.DOES_NOT_HOLD


def select(rows: pd.DataFrame, selection: Selection) -> pd.DataFrame:
    """The rows with these values; numbers are compared to a relative 1e-9."""
    for column, wanted in selection.items():
        if rows.empty:
            break
        numeric = isinstance(wanted, int | float) and not isinstance(wanted, bool)
        have = rows[column]
        if numeric:
            rows = rows[np.isclose(have.astype(float), float(wanted), rtol=1e-9)]  # type: ignore[arg-type]
        else:
            rows = rows[have.astype(str) == str(wanted)]
    return rows


def by_seed(rows: pd.DataFrame, selection: Selection, measure: str) -> dict[int, float]:
    """Seed -> value of the runs selected, which are one per seed."""
    found = select(rows, selection)
    if found.empty:
        return {}
    if found["seed"].duplicated().any():
        raise ValueError(f"several runs of one seed for {dict(selection)}: name a learning rate")
    return {
        int(s): float(v)
        for s, v in zip(found["seed"], found[measure], strict=True)
        if np.isfinite(v)
    }


def at(one: Selection, other: Selection, measure: str) -> Callable[[pd.DataFrame], Finding]:
    """The difference of two arms, each with one setting."""
    return lambda rows: Finding(paired(by_seed(rows, one, measure), by_seed(rows, other, measure)))


def best(one: Selection, other: Selection, measure: str) -> Callable[[pd.DataFrame], Finding]:
    """The difference of two methods, each at its best learning rate.

    The best learning rate is the rate with the highest mean over seeds.
    """

    def find(rows: pd.DataFrame) -> Finding:
        a, b = best_rate(rows, one, measure), best_rate(rows, other, measure)
        if a is None or b is None:
            return Finding(None)
        values = (
            by_seed(rows, {**one, "learning_rate": a}, measure),
            by_seed(rows, {**other, "learning_rate": b}, measure),
        )
        return Finding(paired(*values), f"at {a:g} and {b:g}")

    return find


def best_rate(rows: pd.DataFrame, selection: Selection, measure: str) -> float | None:
    """The learning rate of the highest mean over the seeds that have all of them."""
    table = by_rate(rows, selection, measure)
    return None if table.empty else float(table.mean().idxmax())  # type: ignore[arg-type]


def by_rate(rows: pd.DataFrame, selection: Selection, measure: str) -> pd.DataFrame:
    """Seeds by learning rates, over the seeds that have all of them; empty unless :func:`whole`."""
    found = select(rows, selection)
    return (
        found.pivot(index="seed", columns="learning_rate", values=measure).dropna()
        if whole(found)
        else pd.DataFrame()
    )


def whole(rows: pd.DataFrame) -> bool:
    """Return whether every learning rate of the study was run.

    A method with fewer is not compared.
    """
    return len(rows) > 0 and all(
        np.isclose(rows["learning_rate"], rate, rtol=1e-9).any() for rate in RATES
    )


def same(one: Selection, other: Selection, measure: str) -> Callable[[pd.DataFrame], Finding]:
    """The difference of two methods at the same learning rate, mean over all of them."""

    def find(rows: pd.DataFrame) -> Finding:
        means = [by_rate(rows, selection, measure).mean(axis=1) for selection in (one, other)]
        sides = [{int(seed): float(value) for seed, value in side.items()} for side in means]  # type: ignore[call-overload]
        return Finding(paired(*sides))

    return find


def front(
    one: Selection, other: Selection, measure: str, against: str = "reward"
) -> Callable[[pd.DataFrame], Finding]:
    """The mean gap of two methods' frontiers of ``measure`` against ``against``.

    It is over the range of ``against`` that both cover.
    """

    def find(rows: pd.DataFrame) -> Finding:
        gap = between(rows, one, other, measure, against)
        if gap is None:
            return Finding(None)
        if gap.mean is None:
            return Finding(
                None,
                f"their ranges of {against} do not overlap"
                if not gap.grid.size
                else "too few shared seeds",
            )
        crossing = bool(gap.above and gap.below)
        words = f"{against} {gap.grid[0]:.2f} to {gap.grid[-1]:.2f}" + (
            ", the frontiers cross" if crossing else ""
        )
        return Finding(gap.mean, words, crossing)

    return find


def between(
    rows: pd.DataFrame, one: Selection, other: Selection, measure: str, against: str
) -> Gap | None:
    """The gap from the second selection's frontier up to the first's.

    None if one of them was not run.
    """
    found, values = fronts(rows, {"base": other, "own": one}, measure, against)
    return gaps(found, values, 1)[0] if len(found) == 2 else None


def fronts(
    rows: pd.DataFrame, selections: Mapping[str, Selection], measure: str, against: str = "reward"
) -> tuple[list[Frontier], dict[str, dict[str, dict[int, float]]]]:
    """The frontier of each selection that is :func:`whole`, and the values behind it.

    Frontiers are by name, values by arm.
    """
    arms: list[Arm] = []
    values: dict[str, dict[str, dict[int, float]]] = {}
    for name, selection in selections.items():
        found = select(rows, selection)
        for rate, members in found.groupby("learning_rate") if whole(found) else ():
            arm = Arm(f"{name}, {rate:g}", name, {"learning_rate": rate}, {})
            arms.append(arm)
            seeds = members["seed"].astype(int)
            # The frontier calls its first axis reward/mean.
            pairs = (("reward/mean", against), (measure, measure))
            values[arm.label] = {
                key: dict(zip(seeds, members[column].astype(float), strict=True))
                for key, column in pairs
            }
    return frontiers(arms, values, measure), values


def rise(selection: Selection, lower: str, upper: str) -> Callable[[pd.DataFrame], Finding]:
    """The column ``upper`` minus ``lower`` of the same runs."""
    return lambda rows: Finding(
        paired(by_seed(rows, selection, upper), by_seed(rows, selection, lower))
    )


def trend(
    selection: Selection, measure: str, terms: Callable[[pd.DataFrame], Sequence[pd.Series]]
) -> Callable[[pd.DataFrame], Finding]:
    """The slope of ``measure`` over the first of ``terms``, with the others held.

    It is by least squares over all runs of a seed; a seed that lacks runs of another seed does not
    count.
    """

    def find(rows: pd.DataFrame) -> Finding:
        found = select(rows, selection)
        groups = list(found.groupby("seed")) if len(found) else []
        most = max((len(members) for _, members in groups), default=0)
        slopes: dict[int, float] = {}
        for seed, members in groups:
            columns = [np.asarray(term, dtype=float) for term in terms(members)]
            if len(members) == most > len(columns):
                design = np.column_stack([*columns, np.ones(len(members))])
                fit = np.linalg.lstsq(design, members[measure].astype(float), rcond=None)
                slopes[int(seed)] = float(fit[0][0])  # type: ignore[arg-type]
        return Finding(paired(slopes, dict.fromkeys(slopes, 0.0)))

    return find
