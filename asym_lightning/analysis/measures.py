"""The numbers that runs are compared by: one value per run and measure, after the same number of iterations for all."""

import re
from collections.abc import Iterable
from dataclasses import dataclass

from asym_lightning.analysis.runs import Run

WINDOW = 10  # iterations; the reward swings from one to the next
TRAINING = {
    "reward/mean": ("reward", 1),
    "entropy/policy": ("entropy (nats)", 0),
    "solved/none": ("unsolved prompts", -1),
}
UNITS = {"wall_seconds": ("wall seconds", 0)}  # they depend on what else the machine did: no better and worse
# What an evaluation calls good when there is more of it; any other name has no better and worse.
GOOD = re.compile(r"/(pass@\d+|avg@\d+|maj@\d+|distinct_correct)$")


@dataclass(frozen=True)
class Measure:
    """``direction`` is 1 where more is better, -1 where less is, 0 where neither is meant."""

    name: str
    label: str
    direction: int


def measures(runs: Iterable[Run]) -> list[Measure]:
    """Every measure that any run has: training reward, then held-out results, entropy, unsolved prompts, seconds."""
    names = {name for run in runs for name in run.after} | {name for run in runs for name in run.evals}
    evaluated = [Measure(name, _label(name), 1 if GOOD.search(name) else 0) for name in sorted(names, key=_rank)]
    training = [Measure(name, f"{label}, last {WINDOW}", direction) for name, (label, direction) in TRAINING.items()]
    return [training[0], *evaluated, *training[1:], *(Measure(name, *rest) for name, rest in UNITS.items())]


def pass_at(name: str) -> tuple[str, int] | None:
    """(prefix, k) of a name such as eval/heldout/pass@8 or train/pass@4, else None."""
    found = re.fullmatch(r"(.+/)pass@(\d+)", name)
    return (found.group(1), int(found.group(2))) if found else None


def main_measures(known: Iterable[Measure]) -> list[str]:
    """Reward, and of the first evaluation set pass@1 and pass@k of the largest k; then entropy and unsolved prompts."""
    found = [(m.name, pass_at(m.name)) for m in known]
    passes = [(name, where) for name, where in found if where]
    first = [(name, k) for name, (prefix, k) in passes if prefix == passes[0][1][0]]
    chosen = [name for name, k in first if k == 1] + [name for name, k in sorted(first, key=lambda pair: pair[1])[-1:] if k > 1]
    return ["reward/mean", *chosen, "entropy/policy", "solved/none"]


def value(run: Run, name: str, cut: int) -> float | None:
    """``name`` of ``run`` after ``cut`` iterations; None where the run does not say.

    Means over the last iterations are taken just before ``cut``. An evaluation counts when it was made after exactly ``cut``
    iterations: of a run that did not finish, the last may be older. Seconds are of whole runs only.
    """
    if name in TRAINING:
        if name not in run.train:
            return None
        last = run.train[name][run.train.index < cut].tail(WINDOW).dropna()
        return float(last.mean()) if len(last) else None
    if run.length == cut and run.status == "done":
        whole = run.wall_seconds if name in UNITS else run.after.get(name)
        if whole is not None:
            return whole
    if name in run.evals and cut in run.evals.index:
        found = float(run.evals.at[cut, name])
        return found if found == found else None
    return None


def _rank(name: str) -> tuple[str, int, int, str]:
    """Within a set: pass@k by k, then the rest by name."""
    where = pass_at(name)
    return (where[0], 0, where[1], name) if where else (name.rpartition("/")[0] + "/", 1, 0, name)


def _label(name: str) -> str:
    return name.removeprefix("eval/").replace("heldout/", "held-out ").replace("/", " ").replace("_", " ")
