"""Differences between runs beyond the compared ones: settings, versions, lengths, seeds."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from asym_lightning.analysis.arms import ABSENT, UNLISTED, Arm, shown, sort_key
from asym_lightning.analysis.runs import Run

# Keys of ``algo`` that any method takes. They do not define a method, so that a difference in them
# between methods is listed as an inequality.
COMMON = ("algo.equal_scale", "algo.rules.", "algo.correction.")


@dataclass(frozen=True)
class Inequality:
    """A difference besides method, setting and seed: its name, and each value with its runs."""

    what: str
    values: dict[str, str]


def inequalities(arms: Sequence[Arm]) -> list[Inequality]:
    """List the differences between runs besides method, setting and seed.

    Compared are config keys that do not define a method, versions, git revision, iterations, swept
    values, and the evaluation before training, which shows a different warm start.
    """
    runs = [(arm, run) for arm in arms for run in arm.runs.values()]
    swept = {key for arm in arms for key in arm.setting}
    keys = sorted({key for _, run in runs for key in run.config} - swept)
    facts: dict[str, list[str]] = {}
    for key in keys:
        if not _defines_method(key) and not key.startswith(UNLISTED):
            facts[key] = [shown(run.config.get(key, ABSENT)) for _, run in runs]
    for name in sorted({name for _, run in runs for name in run.versions}):
        facts[f"version of {name}"] = [run.versions.get(name, ABSENT) for _, run in runs]
    facts["git revision"] = [(run.git_revision or "unknown")[:12] for _, run in runs]
    facts["iterations done"] = [str(run.length) for _, run in runs]
    facts["first iteration in metrics.csv"] = [str(run.train.index[0]) for _, run in runs]
    for name in sorted({name for _, run in runs for name in run.before}):
        facts[f"{name} before training"] = [
            f"{run.before[name]:.6g}" if name in run.before else ABSENT for _, run in runs
        ]
    return _unbalanced(arms) + [
        Inequality(fact, _holders(runs, values))
        for fact, values in facts.items()
        if len(set(values)) > 1
    ]


def _defines_method(key: str) -> bool:
    """Return whether the config key is part of the definition of a method."""
    return key.startswith("algo.") and not key.startswith(COMMON)


def _holders(runs: Sequence[tuple[Arm, Run]], values: Sequence[str]) -> dict[str, str]:
    """Value -> its runs in words: an arm by its label, single runs of an arm by their seeds too."""
    seeds_of: defaultdict[str, defaultdict[str, list[int]]] = defaultdict(lambda: defaultdict(list))
    sizes = {arm.label: len(arm.runs) for arm, _ in runs}
    for (arm, run), value in zip(runs, values, strict=True):
        seeds_of[value][arm.label].append(run.seed)
    holders = {}
    for value, by_arm in seeds_of.items():
        words = [
            label if len(seeds) == sizes[label] else f"{label} (seed {_listed(seeds)})"
            for label, seeds in by_arm.items()
        ]
        holders[value] = "; ".join(words)
    return holders


def _unbalanced(arms: Sequence[Arm]) -> list[Inequality]:
    """Swept keys outside the definition of a method whose values differ between methods."""
    methods = list(dict.fromkeys(arm.method for arm in arms))
    swept = {key for arm in arms for key in arm.setting if not _defines_method(key)}
    unbalanced = []
    for key in sorted(swept):
        by_value: defaultdict[str, list[str]] = defaultdict(list)
        for method in methods:
            runs = [run for arm in arms if arm.method == method for run in arm.runs.values()]
            tried = {run.config.get(key, ABSENT) for run in runs}
            by_value[_listed(map(shown, sorted(tried, key=sort_key)))].append(method)
        if len(by_value) > 1:
            holders = {value: "; ".join(names) for value, names in by_value.items()}
            unbalanced.append(Inequality(f"values tried of {key}", holders))
    return unbalanced


def missing_seeds(arms: Sequence[Arm]) -> dict[str, list[int]]:
    """Label -> the seeds that another arm has and this arm lacks; complete arms are left out."""
    all_seeds = sorted({seed for arm in arms for seed in arm.runs})
    gaps = {arm.label: [seed for seed in all_seeds if seed not in arm.runs] for arm in arms}
    return {label: seeds for label, seeds in gaps.items() if seeds}


def _listed(items: Iterable[Any]) -> str:
    return ", ".join(map(str, items))
