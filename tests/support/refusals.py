"""A command line that is refused: one line, exit status 2, nothing written."""

import sys
from collections.abc import Sequence
from functools import cache
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from asym_lightning.commands.cli import _readable, config_dir, entry
from asym_lightning.commands.sweeps import place
from asym_lightning.config.preflight import check_all
from asym_lightning.config.unknown_keys import check_choices
from asym_lightning.types import ConfigError


def never(config: object) -> None:
    raise AssertionError("the run must not start")


def refusal(
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    *overrides: str,
) -> str:
    """The line with which a command line is refused.

    The exit status must be 2, and nothing may be written: no file and no output.
    """
    work = tmp_path / "work"
    work.mkdir()
    monkeypatch.chdir(work)
    monkeypatch.setenv("NETRC", str(tmp_path / "no_account"))
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    monkeypatch.setattr(sys, "argv", ["train.py", *overrides])
    capsys.readouterr()
    with pytest.raises(SystemExit) as stopped:
        entry("train", "tests.support.refusals:never")
    said = capsys.readouterr()
    lines = said.err.strip().splitlines()
    assert not said.out, "errors go to standard error"
    assert stopped.value.code == 2 and len(lines) == 1 and lines[0].startswith("error: "), lines
    assert not list(work.iterdir()), "nothing may be written"
    return lines[0]


# The default task draws its problems, which takes time.
FEW = ["task.train_size=64", "task.heldout_size=8"]


def refusal_of_parts(*overrides: str) -> str:
    """The message with which the checks refuse the configuration of one run, without a command.

    Hydra's errors are worded as the command words them. Values are set in a configuration that was
    composed once for these choices.
    """
    folders = [config_dir()]
    try:
        check_choices(list(overrides), folders)
        config = _config(overrides)
        place(config, Path("never"))
        check_all([config])
    except ConfigError as error:
        return str(error)
    except (HydraException, OmegaConfBaseException) as error:
        return _readable(error, "train", list(overrides), None)
    finally:
        HydraConfig.instance().cfg = None
    raise AssertionError(f"{overrides} were taken")


def _config(overrides: Sequence[str]) -> DictConfig:
    own_task = any(override.startswith("task=") for override in overrides)
    chosen = [override for override in overrides if _is_choice(override)]
    choices = tuple(chosen if own_task else chosen + FEW)
    values = [override for override in overrides if not _is_choice(override)]
    config = _composed(choices).copy()
    if any(value[0] in "+~" or not _has(config, value.partition("=")[0]) for value in values):
        return _composed((*choices, *values))
    for value in OverridesParser.create().parse_overrides(values):
        OmegaConf.update(config, value.key_or_group, value.value())
    return config


def _is_choice(override: str) -> bool:
    group = override.partition("=")[0].partition("@")[0]
    return "=" in override and (config_dir() / group).is_dir()


def _has(config: DictConfig, key: str) -> bool:
    path, _, name = key.rpartition(".")
    try:
        parent = OmegaConf.select(config, path) if path else config
    except OmegaConfBaseException:
        return False
    if not isinstance(parent, DictConfig):
        return False
    node = parent._get_node(name, validate_access=False)
    # A value in the place of a tree is left to Hydra.
    return node is not None and not isinstance(node, DictConfig)


@cache
def _composed(choices: tuple[str, ...]) -> DictConfig:
    with initialize_config_dir(str(config_dir()), version_base="1.3"):
        return compose("train", list(choices), return_hydra_config=True)
