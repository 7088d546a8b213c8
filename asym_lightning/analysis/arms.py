"""Arms of a comparison: the runs of one method with one setting, and the baseline of each arm."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from asym_lightning.analysis.runs import ComparisonError, LeftOut, Run

ABSENT = "absent"
# Config keys that cannot change what is learned. They make no arms; their differences are listed.
BOOKKEEPING = ("ckpt_path", "trainer.max_epochs", "trainer.profiler", "callbacks.")
# Config keys that make no arms and whose differences are not listed either.
UNLISTED = ("seed", "logger.")
MEASURING = "callbacks.evaluation."
# Keys of the evaluation callback that say when to evaluate: further evaluations leave the compared
# ones as they are, so these keys make no arms.
WHEN = (f"{MEASURING}every", f"{MEASURING}before")


@dataclass(frozen=True, eq=False)
class Arm:
    """The runs that differ in nothing but the seed.

    ``setting`` maps each swept config key to this arm's value. ``runs`` maps the seed to its run.
    """

    label: str
    method: str
    setting: dict[str, Any]
    runs: dict[int, Run]

    @property
    def shared_setting(self) -> dict[str, Any]:
        """The setting without keys of ``algo``: a counterpart of another method has the same."""
        return {key: value for key, value in self.setting.items() if not key.startswith("algo.")}


def group(runs: Sequence[Run]) -> tuple[list[Arm], list[LeftOut]]:
    """Group runs into arms, sorted by method and setting.

    A second run of the same arm and seed, and a copy of a run under another seed, are left out.
    """
    keys = _differing_keys(runs)
    by_setting: defaultdict[tuple[str, str], list[Run]] = defaultdict(list)
    for run in runs:
        by_setting[run.algorithm, repr(_setting(run, keys))].append(run)
    all_settings = [_setting(run, keys) for run in runs]
    arms, left_out = [], []
    for (method, _), members in by_setting.items():
        setting = _setting(members[0], keys)
        kept, duplicates = _one_per_seed(members)
        left_out += duplicates
        label = ", ".join([method, *_described(setting, all_settings)])
        arms.append(Arm(label, method, setting, runs=kept))
    arms.sort(key=lambda arm: (arm.method, [sort_key(value) for value in arm.setting.values()]))
    return arms, left_out


def _differing_keys(runs: Sequence[Run]) -> dict[str, list[str]]:
    """Return the config keys that make the arms of each method.

    These are keys outside ``algo`` that differ within any method, and keys of ``algo`` that differ
    within this method.
    """
    by_method: defaultdict[str, list[Run]] = defaultdict(list)
    for run in runs:
        by_method[run.algorithm].append(run)
    swept = {method: _differing(members) for method, members in by_method.items()}
    swept_anywhere = dict.fromkeys(key for keys in swept.values() for key in keys)
    shared = [key for key in swept_anywhere if not key.startswith("algo.")]
    return {
        method: shared + [key for key in keys if key.startswith("algo.")]
        for method, keys in swept.items()
    }


def _differing(runs: Sequence[Run]) -> list[str]:
    """Keys that can make arms and have more than one value in ``runs``, in config order."""
    keys = dict.fromkeys(key for run in runs for key in run.config)
    differing = []
    for key in keys:
        values = {repr(run.config.get(key, ABSENT)) for run in runs}
        if _makes_arms(key) and len(values) > 1:
            differing.append(key)
    return differing


def _makes_arms(key: str) -> bool:
    if key.startswith(MEASURING) and key not in WHEN:
        return True
    return not key.startswith((*BOOKKEEPING, *UNLISTED))


def _setting(run: Run, keys: dict[str, list[str]]) -> dict[str, Any]:
    return {key: run.config.get(key, ABSENT) for key in keys[run.algorithm]}


def sort_key(value: Any) -> tuple[bool, float, str]:
    """Sort numbers by value, before all other values in the order of their text."""
    is_number = isinstance(value, int | float)
    return not is_number, float(value) if is_number else 0.0, str(value)


def _described(setting: dict[str, Any], all_settings: Sequence[dict[str, Any]]) -> list[str]:
    """Describe a setting in short words.

    For an exchanged part (its ``_target_`` differs) the class name is enough: keys of the part are
    left out if they have one value in all settings with this class.
    """
    all_keys = [key for other in all_settings for key in other]
    parts = [key.removesuffix("_target_") for key in setting if key.endswith("._target_")]
    words = []
    for key, value in setting.items():
        part = next((p for p in parts if key.startswith(p) and key != f"{p}_target_"), None)
        if part:
            target = f"{part}_target_"
            same_class = [other for other in all_settings if other.get(target) == setting[target]]
            if len({repr(other.get(key)) for other in same_class}) == 1:
                continue
        words.append(_label(key, value, all_keys))
    return words


def _label(key: str, value: Any, keys: Iterable[str]) -> str:
    """A short label: the last part of a key and its value, for instance ``lr 1e-06``.

    The last two parts if another key ends alike. A ``_target_`` is named by its section and class.
    """
    is_target = key.endswith("._target_")
    path = key.removesuffix("._target_").split(".")
    name = path[-1]
    if not is_target and any(other != key and other.split(".")[-1] == name for other in keys):
        name = ".".join(path[-2:])
    if value == ABSENT:
        return f"no {name}"
    text = str(value).rpartition(".")[2] if is_target else shown(value)
    return f"{name} {text}"


def shown(value: Any) -> str:
    """A setting as text: 1e-4, 0.5, true."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    if not isinstance(value, float):
        return str(value)
    if 0 < abs(value) < 0.01:
        return np.format_float_scientific(value, trim="-", exp_digits=1)
    return f"{value:g}"


def _one_per_seed(runs: Sequence[Run]) -> tuple[dict[int, Run], list[LeftOut]]:
    """Keep the first run of each seed; leave out the others and copies under another seed."""
    kept: dict[int, Run] = {}
    left_out = []
    for run in sorted(runs, key=lambda r: r.seed):
        twin = next((other for other in kept.values() if _is_copy(run, other)), None)
        if run.seed in kept:
            reason = f"the same arm and seed as {kept[run.seed].folder}"
            left_out.append(LeftOut(run.folder, reason))
        elif twin:
            reason = (
                f"seed {run.seed}, yet number for number the run of seed {twin.seed} "
                f"in {twin.folder}: no independent run"
            )
            left_out.append(LeftOut(run.folder, reason))
        else:
            kept[run.seed] = run
    return kept, left_out


def _is_copy(run: Run, other: Run) -> bool:
    """Return whether both runs have the same training curves and the same final evaluation."""
    return run.after == other.after and _curves(run).equals(_curves(other))


def _curves(run: Run) -> Any:
    learned = ("reward/", "entropy/", "solved/", "length/")
    return run.train[[name for name in run.train if name.startswith(learned)]]


def order(arms: Sequence[Arm], baseline: str | None) -> tuple[list[Arm], dict[str, Arm | None]]:
    """Order arms with the baseline's method first, and find the opponent of each arm.

    If the baseline's method was run under several settings, each arm is compared with the baseline
    arm of the same setting (``shared_setting``: settings that the method itself does not bring).
    If that is impossible, a single arm is the baseline of all: the named one, else the first.

    Args:
        baseline: a method or the label of an arm; None: grpo if there is such an arm, else the
            first method.

    Returns:
        The ordered arms, and label -> the arm to compare with: a baseline itself for a baseline,
        None if the baseline has no such setting.

    Raises:
        ComparisonError: ``baseline`` names no method or arm, or more than one.
    """
    methods = list(dict.fromkeys(arm.method for arm in arms))
    name = baseline if baseline is not None else "grpo" if "grpo" in methods else methods[0]
    candidates = [arm for arm in arms if arm.label == name]
    if not candidates:
        candidates = [arm for arm in arms if arm.method == name]
    if not candidates:
        names = dict.fromkeys([*methods, *(arm.label for arm in arms)])
        raise ComparisonError(
            f"--baseline {name}: no such method or arm; there are {'; '.join(names)}"
        )
    by_setting = defaultdict(list)
    for arm in candidates:
        by_setting[repr(arm.shared_setting)].append(arm)
    # Nothing to match by: only one method, or two baseline arms with the same setting.
    if len(methods) == 1 or any(len(members) > 1 for members in by_setting.values()):
        if baseline is not None and len(candidates) > 1:
            labels = "; ".join(arm.label for arm in candidates)
            raise ComparisonError(
                f"--baseline {name}: it has {len(candidates)} arms, name one of them: {labels}"
            )
        candidates = candidates[:1]
    first_method = candidates[0].method
    ordered = sorted(arms, key=lambda arm: (arm not in candidates, arm.method != first_method))
    return ordered, {arm.label: _opponent(arm, candidates) for arm in ordered}


def _opponent(arm: Arm, baselines: Sequence[Arm]) -> Arm | None:
    """The baseline to compare an arm with: itself for a baseline, None if no setting is equal."""
    if arm in baselines:
        return arm
    if len(baselines) == 1:
        return baselines[0]
    equal = (base for base in baselines if base.shared_setting == arm.shared_setting)
    return next(equal, None)
