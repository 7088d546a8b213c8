"""What the methods of a comparison are made of, as far as they differ in it: the ``algo`` settings of each, part by part."""

from collections.abc import Sequence

from asym_lightning.analysis.arms import ABSENT, Arm, shown

TARGET = "_target_"
PLUMBING = ("name", "_partial_", "_convert_")  # says nothing of the method
SEVERAL = " / "  # between the values of a key that was swept within a method


def method_settings(arms: Sequence[Arm]) -> dict[str, dict[str, str]]:
    """Method -> part of ``algo`` -> its settings in words, for the parts in which methods differ: none where there is one method.

    Of a part that is another object in some method (its ``_target_`` differs) every key is told, of the others those that differ.
    """
    methods = {method: _values([arm for arm in arms if arm.method == method]) for method in dict.fromkeys(arm.method for arm in arms)}
    keys = dict.fromkeys(key for values in methods.values() for key in values)
    differing = [key for key in keys if len({values.get(key) for values in methods.values()}) > 1]
    exchanged = tuple(key.removesuffix(TARGET) for key in differing if key.endswith(f".{TARGET}"))
    told = [key for key in keys if key in differing or key.startswith(exchanged)]
    parts = dict.fromkeys(_part(key) for key in told)
    return {
        method: {
            part: ", ".join(_word(key, values[key]) for key in told if _part(key) == part and key in values) or "none" for part in parts
        }
        for method, values in methods.items()
        if parts
    }


def _values(arms: Sequence[Arm]) -> dict[str, str]:
    """Key below ``algo`` -> its value as text, in the order of the config; of a key that was swept all values."""
    configs = [run.config for arm in arms for run in arm.runs.values()]
    keys = [key for key in dict.fromkeys(key for config in configs for key in config) if key.startswith("algo.")]
    return {
        key.removeprefix("algo."): SEVERAL.join(dict.fromkeys(shown(config.get(key, ABSENT)) for config in configs))
        for key in keys
        if key.rpartition(".")[2] not in PLUMBING
    }


def _part(key: str) -> str:
    return key.partition(".")[0].replace(TARGET, "algorithm")


def _word(key: str, value: str) -> str:
    *above, name = key.split(".")
    if name == TARGET:
        return SEVERAL.join(one.rpartition(".")[2] for one in value.split(SEVERAL))
    return f"{name} {value}" if above else value
