"""Build objects from configs: parts, tokenizer, data.

Error messages name the config key and the valid values.
"""

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from inspect import signature
from typing import Any, get_type_hints

from hydra.utils import get_object, instantiate
from omegaconf import DictConfig, ListConfig, OmegaConf

from asym_lightning.checks import expected, switch
from asym_lightning.config.omegaconf_patches import full_key
from asym_lightning.runtime.moved import MOVED
from asym_lightning.tasks.base import Task, TaskPart
from asym_lightning.tasks.order import Difficulty
from asym_lightning.tasks.prepare import DataSettings, Prepared, prepare
from asym_lightning.types import ConfigError


def build(config: DictConfig, key: str, **extra: Any) -> Any:
    """Instantiate ``config[key]``.

    Args:
        extra: further arguments of the object.

    Raises:
        ConfigError: one line that names a key: the key is unknown, or its value is refused.
    """
    from hydra.errors import InstantiationException

    check_targets(config[key])
    _check_switches_in(config[key])
    try:
        return instantiate(config[key], _convert_="object", **extra)
    except InstantiationException as error:
        cause = error.__cause__
        where = re.search(r"full_key: (\S+)", str(error))
        place = where.group(1) if where else key
        if isinstance(cause, ConfigError):
            raise cause.at(place) from None
        unknown = re.search(r"unexpected keyword argument '(\w+)'", str(cause))
        if unknown:
            raise ConfigError(f"{place}.{unknown.group(1)}: there is no such key") from None
        raise ConfigError(f"{place}: {cause or str(error).splitlines()[0]}") from None


def check_switches(kind: Any, values: Mapping[Any, Any], key: str) -> None:
    """Require a bool for each argument of ``kind`` that is annotated as one.

    Args:
        kind: a class or a function.
        values: its arguments in the config.
        key: config key of these.

    Raises:
        ConfigError: a value is not a bool.
    """
    try:
        hints = get_type_hints(kind.__init__ if isinstance(kind, type) else kind)  # type: ignore[misc]
    except (NameError, TypeError):  # unreadable annotations, in code of other packages
        return
    for name, value in values.items():
        hint = hints.get(name)
        if hint is bool or (hint == bool | None and value is not None):
            switch(f"{key}.{name}", value)


def _check_switches_in(node: Any) -> None:
    """Call :func:`check_switches` for each ``_target_`` in a part of the config."""
    if isinstance(node, DictConfig):
        if "_target_" in node:
            try:
                kind = get_object(node._target_)
            except (ImportError, AttributeError):
                return  # instantiate() raises the error
            check_switches(kind, node, full_key(node))
        for value in node.values():
            _check_switches_in(value)
    elif isinstance(node, ListConfig):
        for value in node:
            _check_switches_in(value)


def check_targets(node: Any) -> None:
    """Refuse a ``_target_`` that has moved, and name its new path. Raises ConfigError.

    Interpolations are not resolved: some need a run folder.
    """
    if not isinstance(node, DictConfig):
        return
    for key in map(str, node):
        if OmegaConf.is_interpolation(node, key) or OmegaConf.is_missing(node, key):
            continue
        child = node[key]
        if key == "_target_" and child in MOVED:
            place = full_key(node, "_target_")
            raise ConfigError(f"{place}={child}: it has moved; write {MOVED[child]}")
        check_targets(child)


@contextmanager
def at_key(key: str) -> Iterator[None]:
    """Add the config key of a part to the refusals that it raises within the context."""
    try:
        yield
    except ConfigError as error:
        raise error.at(key) from None


def settings_of(kind: type[Any], part: DictConfig, key: str, **built: Any) -> Any:
    """Make an object of class ``kind`` from a part of the config.

    Args:
        built: arguments that are objects already; they take the place of those in the part.

    Raises:
        ConfigError: the part is not made of keys, a key is unknown, or a value is refused.
    """
    if not isinstance(part, DictConfig):
        keys = ", ".join(signature(kind).parameters)
        raise ConfigError(f"{key}={part}: must be made of keys: {keys}")
    options: Any = OmegaConf.to_container(part, resolve=True)
    with at_key(key):
        return kind(**(options | built))


def build_task(config: DictConfig, key: str) -> Task:
    """Build the task ``config[key]``. Raises ConfigError where it is refused, or no task."""
    part = config[key]
    task = build(config, key) if isinstance(part, DictConfig) else part
    if not isinstance(task, Task):
        raise ConfigError(f"{full_key(config, key)}={part}: must be {expected(TaskPart)}")
    return task


def build_benchmarks(config: DictConfig) -> dict[str, Task]:
    """Build the tasks under ``benchmarks``, by name.

    Raises:
        ConfigError: a task is refused; the message names its key under ``benchmarks``.
    """
    tasks = {str(name): build_task(config.benchmarks, name) for name in config.benchmarks}
    if "heldout" in tasks:
        raise ConfigError(
            "benchmarks.heldout: this is the name of the task's own held-out problems; "
            "choose another name"
        )
    return tasks


def prepare_data(config: DictConfig, tokenizer: Any, context: int) -> Prepared:
    """Build the task and the benchmarks, without problems that training cannot use.

    Args:
        context: longest sequence of the policy, in tokens.

    Raises:
        ConfigError: a completion of ``rollout.max_tokens``, with any of the prompts, does not fit
            the context.
    """
    room = context - config.rollout.max_tokens
    if room < 1:
        raise ConfigError(
            f"rollout.max_tokens={config.rollout.max_tokens}: the policy's context of {context} "
            "tokens leaves no place for a prompt"
        )
    task, benchmarks = build_task(config, "task"), build_benchmarks(config)
    settings = data_settings(config)
    try:
        return prepare(task, benchmarks, settings, tokenizer=tokenizer, room=room)
    except ConfigError as error:
        raise error.at("data") from None


def data_settings(config: DictConfig) -> DataSettings:
    """Read the keys under ``data``. Raises ConfigError for an unknown key or an invalid value."""
    part = OmegaConf.select(config, "data.difficulty")
    difficulty = Difficulty() if part is None else settings_of(Difficulty, part, "data.difficulty")
    return settings_of(DataSettings, config.data, "data", difficulty=difficulty)
