"""The measures of a comparison: a value per run and measure, after equally many iterations."""

import re
from collections.abc import Iterable
from dataclasses import dataclass

from asym_lightning.analysis.runs import Run

# Iterations in a mean of a training metric; the reward swings from one iteration to the next.
WINDOW = 10
# Training metric -> (label, direction).
TRAINING = {
    "reward/mean": ("reward", 1),
    "entropy/policy": ("entropy (nats)", 0),
    "solved/none": ("unsolved prompts", -1),
}
# Summary value -> (label, direction). Seconds depend on the load of the machine, so they have no
# better and worse.
UNITS = {"wall_seconds": ("wall seconds", 0)}
# Evaluation metrics that are better when higher; all others have no better and worse.
GOOD = re.compile(r"/(pass@\d+|avg@\d+|maj@\d+|distinct_correct)$")


@dataclass(frozen=True)
class Measure:
    """A measure. ``direction`` is 1 if more is better, -1 if less is better, 0 if neither is."""

    name: str
    label: str
    direction: int


def measures(runs: Iterable[Run]) -> list[Measure]:
    """List the measures that any run has.

    Their order: training reward, held-out results, entropy, unsolved prompts, seconds.
    """
    names = {name for run in runs for name in run.after}
    names |= {name for run in runs for name in run.evals}
    evaluated = []
    for name in sorted(names, key=_rank):
        evaluated.append(Measure(name, _label(name), 1 if GOOD.search(name) else 0))
    reward, *training = (
        Measure(name, f"{label}, last {WINDOW}", direction)
        for name, (label, direction) in TRAINING.items()
    )
    units = [Measure(name, label, direction) for name, (label, direction) in UNITS.items()]
    return [reward, *evaluated, *training, *units]


def pass_at(name: str) -> tuple[str, int] | None:
    """Return (prefix, k) of a name such as eval/heldout/pass@8 or train/pass@4, else None."""
    match = re.fullmatch(r"(.+/)pass@(\d+)", name)
    return (match.group(1), int(match.group(2))) if match else None


def main_measures(known: Iterable[Measure]) -> list[str]:
    """Name the main measures.

    They are the reward, pass@1 and the pass@k of the largest k of the first evaluation set, entropy
    and unsolved prompts.
    """
    parsed = [(measure.name, pass_at(measure.name)) for measure in known]
    passes = [(name, prefix_and_k) for name, prefix_and_k in parsed if prefix_and_k]
    first_set = [(name, k) for name, (prefix, k) in passes if prefix == passes[0][1][0]]
    at_1 = [name for name, k in first_set if k == 1]
    largest = sorted(first_set, key=lambda name_and_k: name_and_k[1])[-1:]
    at_largest = [name for name, k in largest if k > 1]
    return ["reward/mean", *at_1, *at_largest, "entropy/policy", "solved/none"]


def value(run: Run, name: str, cut: int) -> float | None:
    """Return the measure ``name`` of ``run`` after ``cut`` iterations; None if the run lacks it.

    A training metric is its mean over the last iterations before ``cut``. An evaluation counts only
    if it was made after exactly ``cut`` iterations: the last evaluation of an unfinished run may be
    older. Seconds count only for finished runs of ``cut`` iterations.
    """
    if name in TRAINING:
        return last_mean(run, name, cut)
    if run.length == cut and run.status == "done":
        final = run.wall_seconds if name in UNITS else run.after.get(name)
        if final is not None:
            return final
    if name in run.evals and cut in run.evals.index:
        evaluated = float(run.evals.at[cut, name])
        # A NaN stands for a measure that this evaluation does not have.
        return evaluated if evaluated == evaluated else None
    return None


def last_mean(run: Run, name: str, cut: int) -> float | None:
    """Mean of a training metric over the last ``WINDOW`` iterations before ``cut``, if any."""
    if name not in run.train:
        return None
    last = run.train[name][run.train.index < cut].tail(WINDOW).dropna()
    return float(last.mean()) if len(last) else None


def _rank(name: str) -> tuple[str, int, int, str]:
    """Sort key of an evaluation metric: by set; within a set pass@k by k, then the rest by name."""
    prefix_and_k = pass_at(name)
    if prefix_and_k:
        return prefix_and_k[0], 0, prefix_and_k[1], name
    return name.rpartition("/")[0] + "/", 1, 0, name


def _label(name: str) -> str:
    label = name.removeprefix("eval/").replace("heldout/", "held-out ")
    return label.replace("/", " ").replace("_", " ")
