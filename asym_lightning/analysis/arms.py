"""Groups runs into arms (a method and its settings) and finds what else is not equal between them."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from asym_lightning.analysis.runs import LeftOut, Refused, Run

ABSENT = "absent"
# What cannot change what is learned: it makes no arms, and is listed among what is not equal (seed and loggers are not listed).
BOOKKEEPING = ("ckpt_path", "trainer.max_epochs", "trainer.profiler", "callbacks.")
UNLISTED = ("seed", "logger.")
# Of ``algo``, what any method can be given: no part of what defines one, so not equal where methods differ in it.
COMMON = ("algo.equal_scale", "algo.rules.", "algo.correction.")
MEASURING = "callbacks.evaluation."
WHEN = (f"{MEASURING}every", f"{MEASURING}before")  # further evaluations change none that is compared


@dataclass(frozen=True, eq=False)
class Arm:
    """The runs that differ in nothing but the seed. ``setting`` holds the differing config keys with this arm's values."""

    label: str
    method: str
    setting: dict[str, Any]
    runs: dict[int, Run]

    @property
    def shared_setting(self) -> dict[str, Any]:
        """The part of the setting that is not the method's own: what a counterpart of another method also has."""
        return {key: value for key, value in self.setting.items() if not key.startswith("algo.")}


@dataclass(frozen=True)
class Inequality:
    """Something besides method, setting and seed that is not the same everywhere: each value with the runs that have it."""

    what: str
    values: dict[str, str]


def group(runs: Sequence[Run]) -> tuple[list[Arm], list[LeftOut]]:
    """Arms sorted by method and setting; a second run of one arm and seed, and a copy under another seed, are left out."""
    keys = _differing_keys(runs)
    sets: defaultdict[tuple[str, str], list[Run]] = defaultdict(list)
    for run in runs:
        sets[run.algorithm, repr(_setting(run, keys))].append(run)
    arms, left_out = [], []
    for (method, _), members in sets.items():
        setting = _setting(members[0], keys)
        kept, out = _one_per_seed(members)
        left_out += out
        arms.append(Arm(", ".join([method, *_described(setting, [_setting(run, keys) for run in runs])]), method, setting, kept))
    return sorted(arms, key=lambda arm: (arm.method, [_order(v) for v in arm.setting.values()])), left_out


def _differing_keys(runs: Sequence[Run]) -> dict[str, list[str]]:
    """For each method the keys that make its arms: shared keys that differ within any method, keys of ``algo`` within this one."""
    by_method: defaultdict[str, list[Run]] = defaultdict(list)
    for run in runs:
        by_method[run.algorithm].append(run)
    own = {method: _differing(members) for method, members in by_method.items()}
    shared = list(dict.fromkeys(key for keys in own.values() for key in keys if not key.startswith("algo.")))
    return {method: shared + [key for key in keys if key.startswith("algo.")] for method, keys in own.items()}


def _differing(runs: Sequence[Run]) -> list[str]:
    keys = dict.fromkeys(key for run in runs for key in run.config)  # in the order of the config
    return [key for key in keys if _makes_arms(key) and len({repr(run.config.get(key, ABSENT)) for run in runs}) > 1]


def _makes_arms(key: str) -> bool:
    return (key.startswith(MEASURING) and key not in WHEN) or not key.startswith((*BOOKKEEPING, *UNLISTED))


def _setting(run: Run, keys: dict[str, list[str]]) -> dict[str, Any]:
    return {key: run.config.get(key, ABSENT) for key in keys[run.algorithm]}


def _order(value: Any) -> tuple[bool, float, str]:
    number = isinstance(value, int | float)
    return not number, float(value) if number else 0.0, str(value)


def _described(setting: dict[str, Any], all_settings: Iterable[dict[str, Any]]) -> list[str]:
    """Short words for a setting: a part that was exchanged (its ``_target_`` differs) speaks for the keys below it."""
    everything = list(all_settings)
    parts = [key.removesuffix("_target_") for key in setting if key.endswith("._target_")]
    words = []
    for key, value in setting.items():
        part = next((p for p in parts if key.startswith(p) and key != f"{p}_target_"), None)
        if part:
            same = {repr(s.get(key)) for s in everything if s.get(f"{part}_target_") == setting[f"{part}_target_"]}
            if len(same) == 1:
                continue
        words.append(_word(key, value, [k for s in everything for k in s]))
    return words


def _word(key: str, value: Any, keys: Iterable[str]) -> str:
    target = key.endswith("._target_")
    path = key.removesuffix("._target_").split(".")
    name = path[-1]
    if not target and any(other != key and other.split(".")[-1] == name for other in keys):
        name = ".".join(path[-2:])
    if value == ABSENT:
        return f"no {name}"
    return f"{name} {str(value).rpartition('.')[2] if target else shown(value)}"


def shown(value: Any) -> str:
    """A setting as text: 1e-4, 0.5, true."""
    if isinstance(value, bool) or value is None:
        return "null" if value is None else str(value).lower()
    if isinstance(value, float):
        return np.format_float_scientific(value, trim="-", exp_digits=1) if 0 < abs(value) < 0.01 else f"{value:g}"
    return str(value)


def _one_per_seed(runs: Sequence[Run]) -> tuple[dict[int, Run], list[LeftOut]]:
    kept: dict[int, Run] = {}
    left_out = []
    for run in sorted(runs, key=lambda r: r.seed):
        twin = next((other for other in kept.values() if _is_copy(run, other)), None)
        if run.seed in kept:
            left_out.append(LeftOut(run.folder, f"the same arm and seed as {kept[run.seed].folder}"))
        elif twin:
            reason = f"seed {run.seed}, yet number for number the run of seed {twin.seed} in {twin.folder}: no independent run"
            left_out.append(LeftOut(run.folder, reason))
        else:
            kept[run.seed] = run
    return kept, left_out


def _is_copy(a: Run, b: Run) -> bool:
    def learned(run: Run) -> Any:
        return run.train[[name for name in run.train if name.startswith(("reward/", "entropy/", "solved/", "length/"))]]

    return a.after == b.after and learned(a).equals(learned(b))


def order(arms: Sequence[Arm], baseline: str | None) -> tuple[list[Arm], dict[str, Arm | None]]:
    """Arms with the baseline's method first, and for each arm's label the arm that it is compared with: itself for a baseline, None
    where the baseline has no such setting.

    ``baseline`` is a method or the label of an arm. A method with several settings is a baseline setting by setting: each arm is
    compared with the one of equal ``shared_setting``. None stands for grpo where it is there, else for the first method.

    Raises:
        Refused: there is no such method or arm, or it does not say which arm is meant.
    """
    methods = list(dict.fromkeys(arm.method for arm in arms))
    name = baseline if baseline is not None else "grpo" if "grpo" in methods else methods[0]
    candidates = [arm for arm in arms if arm.label == name] or [arm for arm in arms if arm.method == name]
    if not candidates:
        raise Refused(
            f"--baseline {name}: no such method or arm; there are {'; '.join(dict.fromkeys([*methods, *(a.label for a in arms)]))}"
        )
    by_setting = defaultdict(list)
    for arm in candidates:
        by_setting[repr(arm.shared_setting)].append(arm)
    if len(methods) == 1 or any(len(members) > 1 for members in by_setting.values()):
        if baseline is not None and len(candidates) > 1:
            raise Refused(f"--baseline {name}: it has {len(candidates)} arms, name one of them: {'; '.join(a.label for a in candidates)}")
        candidates = candidates[:1]
    first = candidates[0].method
    ordered = sorted(arms, key=lambda arm: (arm not in candidates, arm.method != first))
    opponents: dict[str, Arm | None] = {}
    for arm in ordered:
        if arm in candidates:
            opponents[arm.label] = arm
        elif len(candidates) == 1:
            opponents[arm.label] = candidates[0]
        else:
            opponents[arm.label] = next((b for b in candidates if b.shared_setting == arm.shared_setting), None)
    return ordered, opponents


def inequalities(arms: Sequence[Arm]) -> list[Inequality]:
    """What differs between runs besides method, setting and seed: config keys that do not define a method, versions, revision,
    iterations, swept values, and the evaluation before training, which tells a warm start from another."""
    runs = [(arm, run) for arm in arms for run in arm.runs.values()]
    swept = {key for arm in arms for key in arm.setting}
    keys = sorted({key for _, run in runs for key in run.config} - swept)
    listed = [key for key in keys if not _own(key) and not key.startswith(UNLISTED)]
    facts: dict[str, list[str]] = {key: [shown(run.config.get(key, ABSENT)) for _, run in runs] for key in listed}
    for name in sorted({name for _, run in runs for name in run.versions}):
        facts[f"version of {name}"] = [run.versions.get(name, ABSENT) for _, run in runs]
    facts["git revision"] = [(run.git_revision or "unknown")[:12] for _, run in runs]
    facts["iterations done"] = [str(run.length) for _, run in runs]
    facts["first iteration in metrics.csv"] = [str(run.train.index[0]) for _, run in runs]
    for name in sorted({name for _, run in runs for name in run.before}):
        facts[f"{name} before training"] = [f"{run.before[name]:.6g}" if name in run.before else ABSENT for _, run in runs]
    found = [Inequality(what, _holders(runs, values)) for what, values in facts.items() if len(set(values)) > 1]
    return _unbalanced(arms) + found


def _own(key: str) -> bool:
    """Whether the key is part of what defines a method."""
    return key.startswith("algo.") and not key.startswith(COMMON)


def _holders(runs: Sequence[tuple[Arm, Run]], values: Sequence[str]) -> dict[str, str]:
    """Value -> who has it: whole arms by their label, single runs of an arm by their seeds."""
    by_value: defaultdict[str, defaultdict[str, list[int]]] = defaultdict(lambda: defaultdict(list))
    sizes = {arm.label: len(arm.runs) for arm, _ in runs}
    for (arm, run), value in zip(runs, values, strict=True):
        by_value[value][arm.label].append(run.seed)
    return {
        value: "; ".join(label if len(seeds) == sizes[label] else f"{label} (seed {_list(seeds)})" for label, seeds in holders.items())
        for value, holders in by_value.items()
    }


def _unbalanced(arms: Sequence[Arm]) -> list[Inequality]:
    """Swept keys, but for a method's own, whose values are not the same for every method."""
    methods = list(dict.fromkeys(arm.method for arm in arms))
    found = []
    for key in sorted({key for arm in arms for key in arm.setting if not _own(key)}):
        tried = {m: {run.config.get(key, ABSENT) for arm in arms if arm.method == m for run in arm.runs.values()} for m in methods}
        by_value: defaultdict[str, list[str]] = defaultdict(list)
        for method, values in tried.items():
            by_value[_list(map(shown, sorted(values, key=_order)))].append(method)
        if len(by_value) > 1:
            found.append(Inequality(f"values tried of {key}", {value: "; ".join(names) for value, names in by_value.items()}))
    return found


def missing_seeds(arms: Sequence[Arm]) -> dict[str, list[int]]:
    """Label -> seeds that another arm has and this one has not."""
    everything = sorted({seed for arm in arms for seed in arm.runs})
    gaps = {arm.label: [seed for seed in everything if seed not in arm.runs] for arm in arms}
    return {label: seeds for label, seeds in gaps.items() if seeds}


def _list(items: Iterable[Any]) -> str:
    return ", ".join(map(str, items))
