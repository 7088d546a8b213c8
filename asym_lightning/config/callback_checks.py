"""Checks of the callbacks in a config, before an engine or a model is loaded."""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

from omegaconf import DictConfig, OmegaConf

from asym_lightning.checks import one_of
from asym_lightning.config.loading import settings_of
from asym_lightning.metrics.evaluation import names
from asym_lightning.rollout.protocol import samples_of
from asym_lightning.types import ConfigError
from callbacks.record import Recorder, RecordSettings
from callbacks.vllm_rollout import RolloutSettings, VLLMRollout


@dataclass(frozen=True)
class Mandatory:
    """A callback that every run builds itself.

    Args:
        kind: its class.
        settings: the class of its settings in the config.
        why: why every run needs it.
    """

    kind: type
    settings: Any
    why: str


# By their names under ``callbacks`` in the config; all other callbacks there are optional.
MANDATORY = {
    "rollout": Mandatory(VLLMRollout, RolloutSettings, "it makes the rollouts"),
    "record": Mandatory(
        Recorder, RecordSettings, "it writes the metrics and holds them for other callbacks"
    ),
}


def check_callbacks(config: DictConfig) -> None:
    """Check the settings of the callbacks that every run builds itself.

    Raises:
        ConfigError: a callback is missing, or its settings are refused.
    """
    for name in MANDATORY:
        mandatory_settings(config, name)


def mandatory_settings(config: DictConfig, name: str) -> Any:
    """Return the settings of a callback that every run builds itself.

    Raises:
        ConfigError: the callback is missing, names another class, or a key or a value is refused.
    """
    part, key = MANDATORY[name], f"callbacks.{name}"
    section = config.callbacks.get(name)
    if not section:
        raise ConfigError(f"{key} is missing: {part.why}, and every run needs it")
    if not isinstance(section, DictConfig):
        raise ConfigError(f"{key}={section}: must be made of keys")
    values: Any = OmegaConf.to_container(section, resolve=True)
    # Configs of earlier versions name the class.
    own = f"{part.kind.__module__}.{part.kind.__qualname__}"
    target = values.pop("_target_", own)
    if target != own:
        raise ConfigError(
            f"{key}._target_={target}: every run builds this part itself, as {own}; "
            "give a callback of your own another name"
        )
    for unknown in sorted(values.keys() - {field.name for field in fields(part.settings)}):
        raise ConfigError(f"{key}.{unknown}: there is no such key")
    return settings_of(part.settings, OmegaConf.create(values), key)


def evaluated(config: DictConfig, sets: Sequence[str]) -> list[str]:
    """Return the metrics of the run's evaluation of ``sets``; empty without an evaluation."""
    evaluation = config.callbacks.get("evaluation")
    if not evaluation or not evaluation.problems:
        return []
    metrics = []
    for problem_set in sets:
        of_set = names(samples_of(evaluation.samples, problem_set))
        of_set = of_set + ["greedy"] * evaluation.greedy
        metrics += [f"eval/{problem_set}/{name}" for name in of_set]
    return metrics


def check_objective(config: DictConfig, known: Sequence[str]) -> None:
    """Check that the objective is the reward or a metric of the final evaluation.

    Raises ConfigError otherwise.
    """
    allowed = ("reward", *(name for name in known if "verify/" not in name))
    one_of("objective", config.objective, allowed)


def check_monitors(config: DictConfig, known: Sequence[str]) -> None:
    """Check that checkpoints with an evaluation metric as monitor are saved after evaluations.

    Raises:
        ConfigError: the metric is unknown, or a checkpoint is due without an evaluation.
    """
    callbacks: dict[str, Any] = OmegaConf.to_container(config.callbacks, resolve=False)  # type: ignore[assignment]
    every = (callbacks.get("evaluation") or {}).get("every", 0)
    for name, settings in callbacks.items():
        monitor = (settings or {}).get("monitor") or ""
        if not monitor.startswith("eval/"):
            continue
        one_of(f"callbacks.{name}.monitor", monitor, tuple(known))
        due = config.callbacks[name].get("every_n_epochs") or 1
        if not every or due % every:
            raise ConfigError(
                f"callbacks.{name}.monitor={monitor} is known only every "
                f"callbacks.evaluation.every={every} iterations; "
                f"callbacks.{name}.every_n_epochs={due} must be a multiple of it"
            )
