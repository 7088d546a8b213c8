"""Checks of a training config, before an engine or the weights of a model are loaded."""

import logging
from collections.abc import Callable, Sequence
from copy import deepcopy
from pathlib import Path

import torch
from omegaconf import DictConfig, OmegaConf

from asym_lightning.algorithms.corrections import NoCorrection
from asym_lightning.config.callback_checks import (
    check_callbacks,
    check_monitors,
    check_objective,
    evaluated,
)
from asym_lightning.config.keys import (
    PolicyKeys,
    RolloutKeys,
    RunKeys,
    TrainerKeys,
    check_keys,
)
from asym_lightning.config.loading import build, data_settings, prepare_data, settings_of
from asym_lightning.config.model import (
    check_vocabulary,
    context_length,
    load_tokenizer,
    stop_ids,
    unstopped_turn,
)
from asym_lightning.config.package_checks import check_launcher, check_loggers
from asym_lightning.config.parts import handed_on
from asym_lightning.config.resources import check_resources, check_writing
from asym_lightning.config.trainer_checks import (
    check_checkpoint,
    check_mini_batches,
    check_placement,
    check_servers,
    check_trainer,
    world_size,
)
from asym_lightning.config.weight_files import check_checkpoint_fits, check_weight_files
from asym_lightning.learner.optimizer import OptimizerSettings
from asym_lightning.rollout.protocol import check_sampling
from asym_lightning.types import ConfigError, FieldError

log = logging.getLogger(__name__)

# Config keys that check_data reads.
DATA_KEYS = (
    "task",
    "policy.path",
    "policy.trust_remote_code",
    "rollout",
    "data",
    "benchmarks",
    "callbacks",
    "objective",
)


def check_all(configs: Sequence[DictConfig]) -> None:
    """Refuse configs that cannot work. Parts that several configs have in common are checked once.

    Raises:
        ConfigError: one line that names the key, its value, and what would be right.
    """
    # Each check with the config keys that it reads.
    checks: list[tuple[Callable[[DictConfig], object], tuple[str, ...]]] = [
        (check_loggers, ("logger",)),
        (check_launcher, ("hydra", "trainer")),
        (check_numbers, ("rollout", "policy", "trainer", "seed", "ckpt_path")),
        (check_callbacks, ("callbacks",)),
        (check_algorithm, ("algo", "rollout", "policy")),
        (check_staleness, ("algo", "rollout", "data")),
        (check_trainer, ("trainer", "callbacks")),
        (check_servers, ("rollout", "trainer")),
        (check_placement, ("rollout", "policy", "trainer")),
        (check_weight_files, ("policy.path",)),
        (check_resources, ("policy", "trainer", "rollout", "callbacks")),
        (check_checkpoint_fits, ("policy", "ckpt_path")),
        (check_data, DATA_KEYS),
    ]
    handed_on.forget()
    done: set[str] = set()
    for check, keys in checks:
        for config in configs:
            part = str([check.__name__, *(OmegaConf.select(config, key) for key in keys)])
            if part not in done:
                check(config)
                done.add(part)
    if len(configs) > 1:
        # A trainer sets torch's flags when it is built, so that each run of a sweep builds its own.
        handed_on.forget("trainer")


def check_algorithm(config: DictConfig) -> None:
    """Check that the algorithm can be built, and that it suits groups, old log-probs and rewards.

    Raises:
        ConfigError: one line that names the key, its value, and what would be right.
    """
    algorithm = handed_on.build("algorithm", config, lambda: build(config, "algo"))
    try:
        # A call may leave something in an algorithm; the run takes one that nothing has called.
        algorithm = deepcopy(algorithm)
    except Exception:  # a part of a user's own need not have a copy
        handed_on.forget("algorithm")
    # An advantage that is a plain function has no such attribute.
    needs_group = getattr(algorithm.advantage, "needs_group", False)
    if config.rollout.group_size < 2 and needs_group:
        raise ConfigError(
            f"rollout.group_size={config.rollout.group_size}: algo={algorithm.name} compares "
            "rollouts of a group; use 2 or more"
        )
    drops = getattr(algorithm.correction, "drops", False)
    corrected = not isinstance(algorithm.correction, NoCorrection) and not drops
    if config.policy.old_logprobs == "engine" and algorithm.uses_ratio and corrected:
        raise ConfigError(
            f"policy.old_logprobs=engine: the ratio in the loss of algo={algorithm.name} is "
            "against the engine's log-probs already, and algo.correction would weigh by it twice; "
            "take correction=none, icepop or mis, or policy.old_logprobs=trainer"
        )
    graded = algorithm.rules.overlong_share > 0 or any(
        getattr(modulation, "where", "") == "reward" for modulation in algorithm.modulation
    )
    rewards = torch.zeros(1, config.rollout.group_size)
    rewards[0, 0] = 0.5 if graded else 0.0
    try:
        algorithm.advantages(rewards, torch.ones_like(rewards).long())
    except FieldError as error:
        size = f"rollout.group_size={config.rollout.group_size}"
        raise ConfigError(f"{error.at('algo.advantage')} ({size})") from None
    except ValueError as error:
        raise ConfigError(f"algo={algorithm.name}: {error}") from None


def check_staleness(config: DictConfig) -> None:
    """Check that ``rollout.staleness`` suits the other settings.

    Raises:
        ConfigError: one line that names the key, its value, and what would be right.
    """
    key = f"rollout.staleness={config.rollout.staleness}"
    if not config.rollout.staleness:
        return
    if config.rollout.placement != "servers":
        raise ConfigError(
            f"{key}: an engine within the trainer's process cannot work while it learns; "
            "add rollout=servers"
        )
    if OmegaConf.select(config, "algo.rules.dynamic_sampling"):
        raise ConfigError(
            f"{key}: algo={config.algo.name} replaces groups in the iteration that learns; "
            "take rollout.staleness=0"
        )
    if data_settings(config).difficulty.active:
        raise ConfigError(
            f"{key}: data.difficulty chooses problems by the groups of all earlier iterations; "
            "take rollout.staleness=0"
        )


def check_data(config: DictConfig) -> None:
    """Check model, tokenizer, prompts, verifiers, evaluation, objective and checkpoint monitors.

    Raises:
        ConfigError: one line that names the key, its value, and what would be right.
    """
    context = context_length(config)
    tokenizer = handed_on.build("tokenizer", config, lambda: load_tokenizer(config))
    stops = stop_ids(config, tokenizer)
    prepared = handed_on.build("data", config, lambda: prepare_data(config, tokenizer, context))
    sets = prepared.sets
    check_writing(config, tokenizer)
    check_vocabulary(config, prepared.train)
    for prompt_set in sets:
        check_vocabulary(config, prompt_set.prompts)
    if (note := unstopped_turn(tokenizer, stops)) is not None:
        log.warning(note)
    for task in (prepared.task, *(prompt_set.task for prompt_set in sets)):
        # No worker starts here. A verifier that needs a jail raises if this machine lacks one.
        task.verifier()
    evaluation = config.callbacks.get("evaluation")
    names = [prompt_set.name for prompt_set in sets]
    if evaluation is not None and evaluation.problems:
        prefix = "callbacks.evaluation."
        check_sampling(evaluation.samples, evaluation.temperature, names, prefix=prefix)
    known = evaluated(config, names)
    check_objective(config, known)
    check_monitors(config, known)


def check_numbers(config: DictConfig) -> None:
    """Check numbers, switches and choices of rollout, policy and trainer, and the checkpoint.

    Raises:
        ConfigError: one line that names the key, its value, and what would be right.
    """
    check_keys(
        config,
        {"rollout": RolloutKeys, "policy": PolicyKeys, "trainer": TrainerKeys, "": RunKeys},
    )
    settings_of(OptimizerSettings, config.policy.optimizer, "policy.optimizer")
    check_mini_batches(config)
    if config.ckpt_path is not None:
        check_checkpoint(Path(str(config.ckpt_path)), config.trainer.strategy, world_size(config))
