"""Build objects from configs: parts, tokenizer, data.

Error messages name the config key and the valid values.
"""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, get_type_hints

import torch
from hydra.utils import get_object, instantiate
from omegaconf import DictConfig, ListConfig, OmegaConf

from asym_lightning.checks import switch
from asym_lightning.learner.embedded import (
    EmbeddedSettings,
    build_model,
    byte_tokenizer,
    embedded_policy,
)
from asym_lightning.runtime.moved import MOVED
from asym_lightning.tasks.base import Task
from asym_lightning.tasks.order import Difficulty
from asym_lightning.tasks.prepare import DataSettings, Prepared, prepare
from asym_lightning.types import ConfigError, FieldError


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
        return instantiate(config[key], **extra)
    except InstantiationException as error:
        cause = error.__cause__
        where = re.search(r"full_key: (\S+)", str(error))
        place = where.group(1) if where else key
        if isinstance(cause, FieldError):
            raise cause.at(place) from None
        if isinstance(cause, ConfigError):
            raise cause from None
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
            except ImportError:
                return  # instantiate() raises the error
            check_switches(kind, node, node._get_full_key(None))
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
    for key in node:
        child: Any = node._get_node(key)
        if key == "_target_" and child._value() in MOVED:
            target = child._value()
            place = node._get_full_key("_target_")
            raise ConfigError(f"{place}={target}: it has moved; write {MOVED[target]}")
        check_targets(child)


def settings_of(kind: type[Any], part: DictConfig, key: str) -> Any:
    """Make an object of class ``kind`` from a part of the config.

    Raises:
        ConfigError: the part is not made of keys, a key is unknown, or a value is refused.
    """
    if not isinstance(part, DictConfig):
        raise ConfigError(f"{key}={part}: must be made of keys")
    options: Any = OmegaConf.to_container(part, resolve=True)
    check_switches(kind, options, key)
    try:
        return kind(**options)
    except FieldError as error:
        raise error.at(key) from None
    except TypeError as error:
        raise ConfigError(f"{key}: {error}") from None


def policy_folder(config: DictConfig) -> str:
    """Return the folder or hub id of the policy's model: the embedded policy if none is named."""
    return str(config.policy.path or embedded_policy(EmbeddedSettings()))


def load_tokenizer(config: DictConfig) -> Any:
    """Load the policy's tokenizer.

    Raises:
        ConfigError: there is no tokenizer at the folder or hub id.
    """
    path = config.policy.path
    if path is None:
        return byte_tokenizer()
    from transformers import AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(
            path, trust_remote_code=config.policy.trust_remote_code
        )
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ConfigError(
            f"policy.path={path} has no tokenizer that transformers can load: "
            f"{str(error).splitlines()[0]}"
        ) from None
    # For a folder without files of a tokenizer, transformers returns an empty tokenizer.
    if not tokenizer.encode("1+1", add_special_tokens=False):
        raise ConfigError(f"policy.path={path} has no tokenizer: put its tokenizer.json there")
    return tokenizer


def context_length(config: DictConfig) -> int:
    """Return the longest sequence that the policy was built for, in tokens.

    Raises:
        ConfigError: the folder or hub id is not a transformers model.
    """
    if config.policy.path is None:
        return EmbeddedSettings().context
    return getattr(_model_config(config), "max_position_embeddings", 1 << 30)


def layer_sizes(config: DictConfig) -> dict[str, int]:
    """Return the sizes that tensor parallelism divides among ranks, by their names in config.json.

    Sizes that the model's config does not have are left out.

    Raises:
        ConfigError: the folder or hub id is not a transformers model.
    """
    names = ("num_attention_heads", "num_key_value_heads", "intermediate_size")
    if config.policy.path is None:
        embedded = EmbeddedSettings()
        sizes = (embedded.heads, embedded.kv_heads, embedded.intermediate_size)
        return dict(zip(names, sizes, strict=True))
    model = _model_config(config)
    values = {name: getattr(model, name, None) for name in names}
    return {name: value for name, value in values.items() if isinstance(value, int)}


def _model_config(config: DictConfig) -> Any:
    from transformers import AutoConfig

    path = config.policy.path
    # A hub id has one slash, and no dot, slash or tilde at its start.
    looks_local = str(path).startswith((".", "/", "~")) or str(path).count("/") > 1
    if "/" in str(path) and looks_local and not Path(path).exists():
        raise ConfigError(f"policy.path={path}: there is no such folder")
    try:
        model = AutoConfig.from_pretrained(path, trust_remote_code=config.policy.trust_remote_code)
    except (OSError, ValueError, KeyError) as error:
        raise ConfigError(
            f"policy.path={path} is not a transformers model: {str(error).splitlines()[0]}"
        ) from None
    folder = Path(path)
    if folder.is_dir() and not any(folder.glob("*.safetensors")) and not any(folder.glob("*.bin")):
        raise ConfigError(f"policy.path={path} has a config.json but no weights (*.safetensors)")
    return model


def skeleton(config: DictConfig) -> Any:
    """Return the policy's model without weights, on torch's meta device.

    It has the names and shapes of the layers and takes no memory.

    Raises:
        ConfigError: the folder or hub id is not a causal language model of transformers.
    """
    with torch.device("meta"):
        if config.policy.path is None:
            return build_model(EmbeddedSettings(), byte_tokenizer())
        from transformers import AutoModelForCausalLM

        try:
            return AutoModelForCausalLM.from_config(
                _model_config(config), trust_remote_code=config.policy.trust_remote_code
            )
        except ValueError as error:
            raise ConfigError(
                f"policy.path={config.policy.path} cannot be a policy: {str(error).splitlines()[0]}"
            ) from None


def stop_ids(config: DictConfig, tokenizer: Any) -> tuple[int, ...]:
    """Return the ids of the tokens that end a completion.

    They are the tokenizer's end token and those of the model's generation config.

    Raises:
        ConfigError: there is no end token.
    """
    ids = {tokenizer.eos_token_id}
    path = config.policy.path
    if path is not None:
        from transformers import AutoConfig, GenerationConfig

        try:
            generation = GenerationConfig.from_pretrained(path)
        except OSError:  # a folder need not have one
            model = AutoConfig.from_pretrained(
                path, trust_remote_code=config.policy.trust_remote_code
            )
            generation = GenerationConfig.from_model_config(model)
        ends = generation.eos_token_id
        ids |= set(ends) if isinstance(ends, list) else {ends}
    if ids == {None}:
        raise ConfigError(
            f"policy.path={path}: neither the tokenizer nor the model names an end token"
        )
    return tuple(sorted(ids - {None}))


def build_benchmarks(config: DictConfig) -> dict[str, Task]:
    """Build the tasks under ``benchmarks``, by name.

    Raises:
        ConfigError: a task is refused; the message names its key under ``benchmarks``.
    """
    tasks: dict[str, Task] = {}
    for name in config.benchmarks:
        try:
            tasks[str(name)] = build(config.benchmarks, str(name))
        except ConfigError as error:
            text = re.sub(r"\btask\.(?=\w+)", f"benchmarks.{name}.", str(error))
            raise ConfigError(text) from error
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
    task, benchmarks = build(config, "task"), build_benchmarks(config)
    return prepare(task, benchmarks, data_settings(config), tokenizer=tokenizer, room=room)


def data_settings(config: DictConfig) -> DataSettings:
    """Read the keys under ``data``. Raises ConfigError for an unknown key or an invalid value."""
    values: Any = OmegaConf.to_container(config.data, resolve=True)
    difficulty = values["difficulty"] or {}
    known = Difficulty.__annotations__
    if not isinstance(difficulty, dict):
        raise ConfigError(f"data.difficulty={difficulty}; its keys are {', '.join(known)}")
    for key in difficulty:
        if key not in known:
            raise ConfigError(
                f"data.difficulty.{key}: there is no such key; its keys are {', '.join(known)}"
            )
    check_switches(DataSettings, values, "data")
    try:
        return DataSettings(**{**values, "difficulty": Difficulty(**difficulty)})
    except TypeError as error:
        raise ConfigError(f"data: {error}") from None
