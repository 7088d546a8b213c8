"""Checks of the callbacks in a config, before an engine or a model is loaded."""

from collections.abc import Sequence
from typing import Any

from omegaconf import DictConfig, OmegaConf

from asym_lightning.checks import one_of
from asym_lightning.config.loading import build
from asym_lightning.metrics.evaluation import names
from asym_lightning.rollout.protocol import samples_of
from asym_lightning.types import ConfigError

# Callback -> why every run needs it.
NEEDED = {
    "rollout": "it makes the rollouts",
    "record": "it writes the metrics and holds them for other callbacks",
}
# Callback -> placeholders of the arguments that a run passes to it.
GIVEN: dict[str, dict[str, Any]] = {
    "rollout": {"engine": None, "sampling": None, "verifier": None, "seed": 0},
    "board": {"hyperparameters": {}},
}
# Start of interpolations that can be resolved only in a run.
HERE = "${hydra:"


def check_callbacks(config: DictConfig) -> None:
    """Check that the callbacks every run needs are there, and that each can be instantiated.

    Raises:
        ConfigError: a callback is missing or unknown, or refuses a key or a value.
    """
    for name, why in NEEDED.items():
        if not config.callbacks.get(name):
            raise ConfigError(f"callbacks.{name} is missing: {why}, and every run needs it")
    trial = config.copy()
    trial.callbacks = _without_folders(OmegaConf.to_container(config.callbacks, resolve=False))
    for name, settings in trial.callbacks.items():
        if settings is not None:
            build(trial.callbacks, name, **GIVEN.get(name, {}))


def _without_folders(tree: Any) -> Any:
    """Nested settings with ``.`` in place of each text that only a run can resolve."""
    if isinstance(tree, dict):
        return {key: _without_folders(value) for key, value in tree.items()}
    if isinstance(tree, list):
        return [_without_folders(value) for value in tree]
    return "." if isinstance(tree, str) and HERE in tree else tree


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
