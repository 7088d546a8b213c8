"""From config to objects: parts, tokenizer, data. Whatever is refused says which key and what would be right."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, get_type_hints

import torch
from hydra.utils import get_object, instantiate
from omegaconf import DictConfig, ListConfig, OmegaConf

from asym_lightning.checks import switch
from asym_lightning.learner.embedded import EmbeddedSettings, build_model, byte_tokenizer
from asym_lightning.runtime.moved import MOVED
from asym_lightning.tasks.base import Task
from asym_lightning.tasks.order import Difficulty
from asym_lightning.tasks.prepare import DataSettings, Prepared, prepare
from asym_lightning.types import ConfigError


def build(config: DictConfig, key: str, **extra: Any) -> Any:
    """Instantiate ``config[key]``; whatever its parts refuse becomes one ConfigError that names the key.

    Raises:
        ConfigError: a value is refused or a key unknown to the part it is given to.
    """
    from hydra.errors import InstantiationException

    _check_targets_in(config[key])
    _check_switches_in(config[key])
    try:
        return instantiate(config[key], **extra)
    except InstantiationException as error:
        cause = error.__cause__
        if isinstance(cause, ConfigError):
            raise cause from None
        unknown = re.search(r"unexpected keyword argument '(\w+)'", str(cause))
        where = re.search(r"full_key: (\S+)", str(error))
        place = where.group(1) if where else key
        if unknown:
            raise ConfigError(f"{place}.{unknown.group(1)}: there is no such key") from None
        raise ConfigError(f"{place}: {cause or str(error).splitlines()[0]}") from None


def check_switches(kind: Any, given: Mapping[Any, Any], key: str) -> None:
    """Refuse what is no bool where ``kind`` takes one. Raises ConfigError."""
    try:
        hints = get_type_hints(kind.__init__ if isinstance(kind, type) else kind)  # type: ignore[misc]
    except (NameError, TypeError):  # annotations of others that cannot be read
        return
    for name, value in given.items():
        hint = hints.get(name)
        if hint is bool or (hint == bool | None and value is not None):
            switch(f"{key}.{name}", value)


def _check_switches_in(node: Any) -> None:
    """The same of everything in a part of the config that is to be instantiated."""
    if isinstance(node, DictConfig):
        if "_target_" in node:
            try:
                kind = get_object(node._target_)
            except ImportError:
                return  # instantiating says so
            check_switches(kind, node, node._get_full_key(None))
        for value in node.values():
            _check_switches_in(value)
    elif isinstance(node, ListConfig):
        for value in node:
            _check_switches_in(value)


def _check_targets_in(node: Any) -> None:
    """Refuse a class that has moved, by the name that it has now. Raises ConfigError."""
    if isinstance(node, DictConfig):
        if (target := node.get("_target_")) in MOVED:
            raise ConfigError(f"{node._get_full_key('_target_')}={target}: it has moved; write {MOVED[target]}")
        for value in node.values():
            _check_targets_in(value)


def settings_of(kind: type[Any], given: DictConfig, key: str) -> Any:
    """``kind`` made from a part of the config. Raises ``ConfigError`` for a key it does not know, or a value it refuses."""
    if not isinstance(given, DictConfig):
        raise ConfigError(f"{key}={given}: must be made of keys")
    options: Any = OmegaConf.to_container(given, resolve=True)
    check_switches(kind, options, key)
    try:
        return kind(**options)
    except TypeError as error:
        raise ConfigError(f"{key}: {error}") from None


def load_tokenizer(config: DictConfig) -> Any:
    """The policy's tokenizer.

    Raises:
        ConfigError: the folder or hub id holds no tokenizer.
    """
    path = config.policy.path
    if path is None:
        return byte_tokenizer()
    from transformers import AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(path, trust_remote_code=config.policy.trust_remote_code)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ConfigError(f"policy.path={path} has no tokenizer that transformers can load: {str(error).splitlines()[0]}") from None
    if not tokenizer.encode("1+1", add_special_tokens=False):  # transformers makes an empty one where a folder has no files of it
        raise ConfigError(f"policy.path={path} has no tokenizer: put its tokenizer.json there")
    return tokenizer


def context_length(config: DictConfig) -> int:
    """Longest sequence the policy was built for, in tokens.

    Raises:
        ConfigError: the folder or hub id is not a transformers model.
    """
    if config.policy.path is None:
        return EmbeddedSettings().context
    return getattr(_model_config(config), "max_position_embeddings", 1 << 30)


def layer_sizes(config: DictConfig) -> dict[str, int]:
    """What tensor parallelism divides among ranks, by the names in a model's config.json; those that the model has.

    Raises:
        ConfigError: the folder or hub id is not a transformers model.
    """
    names = ("num_attention_heads", "num_key_value_heads", "intermediate_size")
    if config.policy.path is None:
        embedded = EmbeddedSettings()
        return dict(zip(names, (embedded.heads, embedded.kv_heads, embedded.intermediate_size), strict=True))
    model = _model_config(config)
    return {name: getattr(model, name) for name in names if isinstance(getattr(model, name, None), int)}


def _model_config(config: DictConfig) -> Any:
    from transformers import AutoConfig

    path = config.policy.path
    if "/" in str(path) and not Path(path).exists() and (str(path).startswith((".", "/", "~")) or str(path).count("/") > 1):
        raise ConfigError(f"policy.path={path}: there is no such folder")
    try:
        model = AutoConfig.from_pretrained(path, trust_remote_code=config.policy.trust_remote_code)
    except (OSError, ValueError, KeyError) as error:
        raise ConfigError(f"policy.path={path} is not a transformers model: {str(error).splitlines()[0]}") from None
    folder = Path(path)
    if folder.is_dir() and not any(folder.glob("*.safetensors")) and not any(folder.glob("*.bin")):
        raise ConfigError(f"policy.path={path} has a config.json but no weights (*.safetensors)")
    return model


def skeleton(config: DictConfig) -> Any:
    """The policy's model without its weights, on torch's meta device: names and shapes of its layers, in no memory.

    Raises:
        ConfigError: the folder or hub id is not a transformers model that writes text.
    """
    with torch.device("meta"):
        if config.policy.path is None:
            return build_model(EmbeddedSettings(), byte_tokenizer())
        from transformers import AutoModelForCausalLM

        try:
            return AutoModelForCausalLM.from_config(_model_config(config), trust_remote_code=config.policy.trust_remote_code)
        except ValueError as error:
            raise ConfigError(f"policy.path={config.policy.path} cannot be a policy: {str(error).splitlines()[0]}") from None


def stop_ids(config: DictConfig, tokenizer: Any) -> tuple[int, ...]:
    """Ids of the tokens that end a completion: the tokenizer's end token and those of the model's generation config.

    Raises:
        ConfigError: there is none.
    """
    found = {tokenizer.eos_token_id}
    path = config.policy.path
    if path is not None:
        from transformers import AutoConfig, GenerationConfig

        try:
            generation = GenerationConfig.from_pretrained(path)
        except OSError:  # a folder need not have one
            model = AutoConfig.from_pretrained(path, trust_remote_code=config.policy.trust_remote_code)
            generation = GenerationConfig.from_model_config(model)
        ends = generation.eos_token_id
        found |= set(ends) if isinstance(ends, list) else {ends}
    if found == {None}:
        raise ConfigError(f"policy.path={path}: neither the tokenizer nor the model names an end token")
    return tuple(sorted(found - {None}))


def build_benchmarks(config: DictConfig) -> dict[str, Task]:
    """The tasks under ``benchmarks``, by name.

    Raises:
        ConfigError: one of them is refused; its keys are named as they stand there.
    """
    tasks: dict[str, Task] = {}
    for name in config.benchmarks:
        try:
            tasks[str(name)] = build(config.benchmarks, str(name))
        except ConfigError as error:
            raise ConfigError(re.sub(r"\btask\.(?=\w+)", f"benchmarks.{name}.", str(error))) from error
    if "heldout" in tasks:
        raise ConfigError("benchmarks.heldout: this is the name of the task's own held-out problems; choose another one")
    return tasks


def prepare_data(config: DictConfig, tokenizer: Any, context: int) -> Prepared:
    """The task and the benchmarks as training sees them.

    Raises:
        ConfigError: a completion alone does not fit the context, or no prompt does beside it.
    """
    room = context - config.rollout.max_tokens
    if room < 1:
        raise ConfigError(
            f"rollout.max_tokens={config.rollout.max_tokens}: the policy's context of {context} tokens leaves no place for a prompt"
        )
    return prepare(build(config, "task"), build_benchmarks(config), data_settings(config), tokenizer, room)


def data_settings(config: DictConfig) -> DataSettings:
    """The keys under ``data``. Raises ConfigError for a value that cannot work."""
    given: Any = OmegaConf.to_container(config.data, resolve=True)
    keys = given["difficulty"] or {}
    if not isinstance(keys, dict) or (unknown := [key for key in keys if key not in Difficulty.__annotations__]):
        wrong = f"={keys}" if not isinstance(keys, dict) else f".{unknown[0]}: there is no such key"
        raise ConfigError(f"data.difficulty{wrong}; its keys are {', '.join(Difficulty.__annotations__)}")
    check_switches(DataSettings, given, "data")
    return DataSettings(**{**given, "difficulty": Difficulty(**keys)})
