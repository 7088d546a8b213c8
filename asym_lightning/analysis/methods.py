"""The settings of each method where methods differ: the keys of ``algo``, part by part."""

from collections.abc import Sequence
from itertools import chain

from asym_lightning.analysis.arms import ABSENT, Arm, shown

TARGET = "_target_"
# Keys of a method that are no setting of it.
NOT_SETTINGS = ("name", "_partial_", "_convert_")
# Between the values of a key that was swept within a method.
SEPARATOR = " / "


def method_settings(arms: Sequence[Arm]) -> dict[str, dict[str, str]]:
    """Return method -> part of ``algo`` -> its settings in words, for the parts that differ.

    All keys are listed for a part that is another class in some method (its ``_target_`` differs),
    and the differing keys for other parts. Empty if there is only one method.
    """
    methods = {
        method: _settings([arm for arm in arms if arm.method == method])
        for method in dict.fromkeys(arm.method for arm in arms)
    }
    keys = dict.fromkeys(key for values in methods.values() for key in values)
    differing = [key for key in keys if len({values.get(key) for values in methods.values()}) > 1]
    exchanged = tuple(key.removesuffix(TARGET) for key in differing if key.endswith(f".{TARGET}"))
    listed = [key for key in keys if key in differing or key.startswith(exchanged)]
    parts = dict.fromkeys(_part(key) for key in listed)
    if not parts:
        return {}
    settings: dict[str, dict[str, str]] = {}
    for method, values in methods.items():
        settings[method] = {}
        for part in parts:
            part_keys = [key for key in listed if _part(key) == part and key in values]
            words = ", ".join(_word(key, values[key]) for key in part_keys)
            settings[method][part] = words or "none"
    return settings


def _settings(arms: Sequence[Arm]) -> dict[str, str]:
    """Return the settings under ``algo`` as text, by key, in the order of the configs.

    A key with several values among the runs has them all, joined by ``SEPARATOR``.
    """
    configs = [run.config for arm in arms for run in arm.runs.values()]
    values = {}
    keys = dict.fromkeys(chain.from_iterable(configs))
    for key in keys:
        if key.startswith("algo.") and key.rpartition(".")[2] not in NOT_SETTINGS:
            texts = dict.fromkeys(shown(config.get(key, ABSENT)) for config in configs)
            values[key.removeprefix("algo.")] = SEPARATOR.join(texts)
    return values


def _part(key: str) -> str:
    return key.partition(".")[0].replace(TARGET, "algorithm")


def _word(key: str, value: str) -> str:
    *path, name = key.split(".")
    if name == TARGET:
        return SEPARATOR.join(target.rpartition(".")[2] for target in value.split(SEPARATOR))
    return f"{name} {value}" if path else value
