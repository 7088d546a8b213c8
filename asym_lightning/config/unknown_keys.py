"""Error messages for unknown keys and for invalid choices of config groups.

An unknown key is explained by the option of a group that has it, or else by the nearest key.
"""

import difflib
import re
import sys
from collections.abc import Iterator
from pathlib import Path

from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf

from asym_lightning.types import ConfigError


def explain(name: str, config_name: str, overrides: list[str], folders: list[Path]) -> str:
    """Return an error line on the unknown key ``name`` of a command line.

    Args:
        overrides: the overrides of the command line.
        folders: folders of config groups; the first is the one of this project.
    """
    config = _composed(config_name, _choices_of(overrides, folders), folders)
    has = _choice_that_has(name, config.hydra.runtime.choices, folders)
    if has:
        return f"{name}: {has}"
    groups = [path.name for folder in folders for path in folder.iterdir() if path.is_dir()]
    keys = [key for key in leaves(config) if not key.startswith("hydra.")]
    near = nearest(name, keys if "." in name else [*keys, *groups])
    if near:
        return f"unknown key '{name}'; did you mean '{near}'?"
    return f"unknown key '{name}'; {_program(config_name)} --help lists every key"


def _program(config_name: str) -> str:
    """The command that was called: a script of the checkout or an installed program."""
    name = Path(sys.argv[0]).name
    return name if name == f"asym-{config_name}" else f"python {config_name}.py"


def check_choices(overrides: list[str], folders: list[Path]) -> None:
    """Refuse a choice in a config group that is not a name (`rollout=2`).

    Hydra would end with a traceback.

    Raises:
        ConfigError: one line that lists the options of the group.
    """
    for override in OverridesParser.create().parse_overrides(overrides):
        if override.is_sweep_override() or override.is_delete():
            continue
        files = [file for folder in folders for file in _options(folder, override.key_or_group)]
        if files and not isinstance(override.value(), str | list):
            options = ", ".join(sorted({file.stem for file in files}))
            raise ConfigError(f"{override.input_line}: must be one of {options}")


def _options(folder: Path, group: str) -> Iterator[Path]:
    """The files of a config group's options."""
    return (folder / group).glob("*.yaml")


def nearest(name: str, keys: list[str]) -> str | None:
    """Return the key that ``name`` probably means, or None.

    It is a key that resembles ``name`` both in full and in its last part; else a key with the same
    last part, or a key whose initials (`lr`) are the last part of ``name``.
    """
    last = _last_part(name)
    similar = [
        key for key in keys if difflib.SequenceMatcher(None, last, _last_part(key)).ratio() >= 0.7
    ]
    matches = difflib.get_close_matches(name, similar, n=1, cutoff=0.75)
    if matches:
        return matches[0]
    root = name.split(".")[0]
    candidates = [key for key in keys if key.split(".")[0] == root] or keys
    candidates = [key for key in candidates if last in (_last_part(key), _initials(key))]
    if not candidates:
        return None
    return difflib.get_close_matches(name, candidates, n=1, cutoff=0.0)[0]


def _last_part(key: str) -> str:
    """`learning_rate` of `policy.optimizer.learning_rate`."""
    return key.rpartition(".")[2]


def _initials(key: str) -> str:
    """`lr` of `policy.optimizer.learning_rate`; empty if the last part is a single word."""
    words = _last_part(key).split("_")
    return "".join(word[:1] for word in words) if len(words) > 1 else ""


def leaves(config: DictConfig, above: str = "") -> Iterator[str]:
    """Yield the dotted keys that hold a value, without Hydra's own keys (`_target_`)."""
    for key in map(str, config):
        if key.startswith("_"):
            continue
        unresolved = OmegaConf.is_interpolation(config, key) or OmegaConf.is_missing(config, key)
        child = None if unresolved else config[key]
        if isinstance(child, DictConfig) and len(child):
            yield from leaves(child, f"{above}{key}.")
        else:
            yield f"{above}{key}"


def _choices_of(overrides: list[str], folders: list[Path]) -> list[str]:
    """The overrides that choose an option of a config group, without sweeps over options."""
    choices = []
    for override in OverridesParser.create().parse_overrides(overrides):
        is_group = any((folder / override.key_or_group).is_dir() for folder in folders)
        if is_group and not override.is_sweep_override():
            choices.append(str(override.input_line))
    return choices


def _composed(config_name: str, choices: list[str], folders: list[Path]) -> DictConfig:
    """The config with these choices; without them if they do not compose."""
    GlobalHydra.instance().clear()
    search = [f"hydra.searchpath=[{','.join(f'file://{folder}' for folder in folders[1:])}]"]
    with initialize_config_dir(str(folders[0]), version_base="1.3"):
        try:
            return compose(config_name, [*search, *choices], return_hydra_config=True)
        except HydraException:  # a choice depends on the unknown key
            return compose(config_name, return_hydra_config=True)


def _choice_that_has(name: str, chosen: DictConfig, folders: list[Path]) -> str | None:
    """A text on the options of a group that have the key ``name``; None if no option has it.

    Example: `task=countdown has no such key; task=math has it`.
    """
    parts = name.split(".")
    for depth, group in enumerate(parts[:-1], 1):
        package = ".".join(parts[:depth])
        # Options of the first folder replace those of the same name in the others.
        files = {
            path.stem: path for folder in reversed(folders) for path in _options(folder, group)
        }
        having = {option for option in files if _has(option, files, name=name, package=package)}
        # Leave out options that have the key only because a parent has it.
        origins = sorted(option for option in having if not having & set(_parents(files[option])))
        for choice in (f"{group}@{package}", group):
            if origins and choice in chosen:
                verb = "has" if len(origins) == 1 else "have"
                return (
                    f"{choice}={chosen[choice]} has no such key; "
                    f"{choice}={', '.join(origins)} {verb} it"
                )
    return None


def _has(option: str, files: dict[str, Path], *, name: str, package: str) -> bool:
    """Whether an option of a group has the key, in its own file or in that of a parent."""
    header = re.match(r"# @package (\S+)", files[option].read_text())
    inside = name.removeprefix(f"{header.group(1) if header else package}.")
    if inside in leaves(_loaded(files[option])):
        return True
    parents = [parent for parent in _parents(files[option]) if parent in files]
    return any(_has(parent, files, name=name, package=package) for parent in parents)


def _parents(file: Path) -> list[str]:
    """The options of the same group in the defaults of a file."""
    defaults = _loaded(file).get("defaults", [])
    return [entry for entry in defaults if isinstance(entry, str) and entry != "_self_"]


def _loaded(file: Path) -> DictConfig:
    """The contents of a YAML file; empty if it holds no keys."""
    loaded = OmegaConf.load(file)
    return loaded if isinstance(loaded, DictConfig) else OmegaConf.create({})
