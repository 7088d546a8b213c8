"""What to say of a key that a configuration lacks, another choice that has it or the nearest name; and of a choice that is none."""

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
    """One line on the unknown key ``name`` of a command line, config groups being looked up in ``folders``, the first of them our own."""
    config = _composed(config_name, _choices_of(overrides, folders), folders)
    has = _choice_that_has(name, config.hydra.runtime.choices, folders)
    if has:
        return f"{name}: {has}"
    groups = [path.name for folder in folders for path in folder.iterdir() if path.is_dir()]
    keys = [key for key in leaves(config) if not key.startswith("hydra.")]
    near = nearest(name, keys if "." in name else [*keys, *groups])
    return f"unknown key '{name}'" + (f"; did you mean '{near}'?" if near else f"; {_program(config_name)} --help lists every key")


def _program(config_name: str) -> str:
    """The command that was called: a script of the checkout, or a program that was installed."""
    name = Path(sys.argv[0]).name
    return name if name == f"asym-{config_name}" else f"python {config_name}.py"


def check_choices(overrides: list[str], folders: list[Path]) -> None:
    """Refuse what is no name where an option of a group is chosen (`rollout=2`); Hydra would end with a traceback. Raises ConfigError."""
    for one in OverridesParser.create().parse_overrides(overrides):
        options = sorted({path.stem for folder in folders for path in (folder / one.key_or_group).glob("*.yaml")})
        if options and not one.is_sweep_override() and not one.is_delete() and not isinstance(one.value(), str | list):
            raise ConfigError(f"{one.input_line}: must be one of {', '.join(options)}")


def nearest(name: str, keys: list[str]) -> str | None:
    """The key that was probably meant: like ``name`` as a whole and in its last part, or with the same last part, or of its initials."""
    last = name.rpartition(".")[2]
    alike = [key for key in keys if difflib.SequenceMatcher(None, last, key.rpartition(".")[2]).ratio() >= 0.7]
    for key in difflib.get_close_matches(name, alike, 1, 0.75):
        return key
    root = name.split(".")[0]
    within = [key for key in keys if key.split(".")[0] == root] or keys
    meant = [key for key in within if last in (key.rpartition(".")[2], _initials(key))]
    return difflib.get_close_matches(name, meant, 1, 0.0)[0] if meant else None


def _initials(key: str) -> str:
    """`lr` of `policy.optimizer.learning_rate`; nothing where the last part is one word."""
    words = key.rpartition(".")[2].split("_")
    return "".join(word[:1] for word in words) if len(words) > 1 else ""


def leaves(config: DictConfig, above: str = "") -> Iterator[str]:
    """The dotted keys that hold a value, those of Hydra's own (`_target_`) aside."""
    for key in map(str, config):
        child = config._get_node(key)
        if key.startswith("_"):
            continue
        if isinstance(child, DictConfig) and len(child):
            yield from leaves(child, f"{above}{key}.")
        else:
            yield f"{above}{key}"


def _choices_of(overrides: list[str], folders: list[Path]) -> list[str]:
    """The overrides that choose an option of a group, and no several of them."""
    parsed = OverridesParser.create().parse_overrides(overrides)
    kept = [one for one in parsed if any((folder / one.key_or_group).is_dir() for folder in folders) and not one.is_sweep_override()]
    return [str(one.input_line) for one in kept]


def _composed(config_name: str, choices: list[str], folders: list[Path]) -> DictConfig:
    GlobalHydra.instance().clear()
    search = [f"hydra.searchpath=[{','.join(f'file://{folder}' for folder in folders[1:])}]"]
    with initialize_config_dir(str(folders[0]), version_base="1.3"):
        try:
            return compose(config_name, [*search, *choices], return_hydra_config=True)
        except HydraException:  # a choice that depends on what is wrong
            return compose(config_name, return_hydra_config=True)


def _choice_that_has(name: str, chosen: DictConfig, folders: list[Path]) -> str | None:
    """What another option of a group that ``name`` leads through would bring: `task=countdown has no such key; task=math has it`."""
    parts = name.split(".")
    for depth, group in enumerate(parts[:-1], 1):
        package = ".".join(parts[:depth])
        files = {path.stem: path for folder in reversed(folders) for path in (folder / group).glob("*.yaml")}
        having = {option for option in files if _has(option, files, name, package)}
        first = sorted(option for option in having if not having & set(_parents(files[option])))
        for choice in (f"{group}@{package}", group):
            if first and choice in chosen:
                return f"{choice}={chosen[choice]} has no such key; {choice}={', '.join(first)} {'has' if len(first) == 1 else 'have'} it"
    return None


def _has(option: str, files: dict[str, Path], name: str, package: str) -> bool:
    """Whether an option of a group has the key, by its file or by one that this is built on."""
    header = re.match(r"# @package (\S+)", files[option].read_text())
    inside = name.removeprefix(f"{header.group(1) if header else package}.")
    above = [parent for parent in _parents(files[option]) if parent in files]
    return inside in leaves(_loaded(files[option])) or any(_has(parent, files, name, package) for parent in above)


def _parents(file: Path) -> list[str]:
    """The options of the same group that a file is built on."""
    return [one for one in _loaded(file).get("defaults", []) if isinstance(one, str) and one != "_self_"]


def _loaded(file: Path) -> DictConfig:
    loaded = OmegaConf.load(file)
    return loaded if isinstance(loaded, DictConfig) else OmegaConf.create({})
