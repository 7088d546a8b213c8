"""Everything that can be known to be wrong before an engine or the weights of a model are loaded."""

from pathlib import Path
from typing import Any

from hydra.utils import instantiate
from omegaconf import DictConfig

from asym_lightning.embedded import EmbeddedSettings, byte_tokenizer
from asym_lightning.tasks.base import Task
from asym_lightning.types import ConfigError


def build(config: DictConfig, key: str, **extra: Any) -> Any:
    """Instantiate ``config[key]``; whatever its parts refuse becomes one ConfigError that names the key.

    Raises:
        ConfigError: a value is refused or a key unknown to the part it is given to.
    """
    from hydra.errors import InstantiationException

    try:
        return instantiate(config[key], **extra)
    except InstantiationException as error:
        cause = error.__cause__
        if isinstance(cause, ConfigError):
            raise cause from None
        raise ConfigError(f"{key}: {cause or error}") from None


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
        return AutoTokenizer.from_pretrained(path, trust_remote_code=config.policy.trust_remote_code)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ConfigError(f"policy.path={path} has no tokenizer that transformers can load: {str(error).splitlines()[0]}") from None


def context_length(config: DictConfig) -> int:
    """Longest sequence the policy was built for, in tokens.

    Raises:
        ConfigError: the folder or hub id is not a transformers model.
    """
    path = config.policy.path
    if path is None:
        return EmbeddedSettings().context
    from transformers import AutoConfig

    if "/" in str(path) and not Path(path).exists() and (str(path).startswith((".", "/", "~")) or str(path).count("/") > 1):
        raise ConfigError(f"policy.path={path}: there is no such folder")
    try:
        model = AutoConfig.from_pretrained(path, trust_remote_code=config.policy.trust_remote_code)
    except (OSError, ValueError, KeyError) as error:
        raise ConfigError(f"policy.path={path} is not a transformers model: {str(error).splitlines()[0]}") from None
    folder = Path(path)
    if folder.is_dir() and not any(folder.glob("*.safetensors")) and not any(folder.glob("*.bin")):
        raise ConfigError(f"policy.path={path} has a config.json but no weights (*.safetensors)")
    return getattr(model, "max_position_embeddings", 1 << 30)


def world_size(config: DictConfig) -> int:
    """Number of ranks that the trainer's settings ask for; 1 where only the machine can tell."""
    devices = config.trainer.devices
    count = devices if isinstance(devices, int) else len(devices) if not isinstance(devices, str) else 1
    return max(1, count) * config.trainer.num_nodes


def check(config: DictConfig) -> None:
    """Refuse a config that cannot work.

    Raises:
        ConfigError: one line that names the key, its value, and what would be right.
    """
    check_batches(config)
    algorithm = build(config, "algo")
    if config.rollout.group_size < 2 and algorithm.advantage.needs_group:
        raise ConfigError(
            f"rollout.group_size={config.rollout.group_size}: algo={algorithm.name} compares rollouts of a group; use 2 or more"
        )
    context = context_length(config)
    tokenizer = load_tokenizer(config)
    check_prompts(build(config, "task"), tokenizer, config, context)


def check_batches(config: DictConfig) -> None:
    """Counts that have to be positive or divide each other."""
    r, p = config.rollout, config.policy
    positive = {
        "rollout.group_size": r.group_size,
        "rollout.prompts_per_iteration": r.prompts_per_iteration,
        "rollout.max_tokens": r.max_tokens,
        "rollout.temperature": r.temperature,
        "policy.prompts_per_mini_batch": p.prompts_per_mini_batch,
        "policy.tokens_per_micro_batch": p.tokens_per_micro_batch,
        "policy.optimizer.learning_rate": p.optimizer.learning_rate,
        "policy.optimizer.max_grad_norm": p.optimizer.max_grad_norm,
    }
    for key, value in positive.items():
        if not (isinstance(value, int | float) and value > 0):
            raise ConfigError(f"{key}={value}: must be a number above 0")
    if r.engine not in ("vllm", "transformers"):
        raise ConfigError(f"rollout.engine={r.engine}: must be vllm or transformers")
    if r.prompts_per_iteration % p.prompts_per_mini_batch:
        raise ConfigError(
            f"policy.prompts_per_mini_batch={p.prompts_per_mini_batch} does not divide rollout.prompts_per_iteration="
            f"{r.prompts_per_iteration}; every mini-batch must hold the same number of prompts"
        )
    ranks = world_size(config)
    if p.prompts_per_mini_batch % ranks:
        raise ConfigError(
            f"policy.prompts_per_mini_batch={p.prompts_per_mini_batch} does not divide by the {ranks} ranks of trainer.devices="
            f"{config.trainer.devices} trainer.num_nodes={config.trainer.num_nodes}; every rank needs the same number of whole groups"
        )
    if config.ckpt_path is not None and not Path(config.ckpt_path).is_file():
        raise ConfigError(f"ckpt_path={config.ckpt_path}: there is no such file")


def check_prompts(task: Task, tokenizer: Any, config: DictConfig, context: int) -> int:
    """The longest prompt of the task in tokens.

    Raises:
        ConfigError: a prompt and its completion do not fit the context.
    """
    longest, problem = max(((len(task.encode(p, tokenizer)), p) for p in [*task.train, *task.heldout]), key=lambda pair: pair[0])
    total = longest + config.rollout.max_tokens
    if total > context:
        raise ConfigError(
            f"prompt of problem {problem.id} has {longest} tokens; with rollout.max_tokens={config.rollout.max_tokens} it does not fit "
            f"the policy's context of {context}; shorten rollout.max_tokens or leave the problem out"
        )
    return longest
