"""What can be known to be wrong of the callbacks before anything is loaded."""

from collections.abc import Sequence
from typing import Any

from omegaconf import DictConfig, OmegaConf

from asym_lightning.checks import one_of
from asym_lightning.config.loading import build
from asym_lightning.metrics.evaluation import names
from asym_lightning.rollout.protocol import samples_of
from asym_lightning.types import ConfigError

NEEDED = {"rollout": "it makes the rollouts", "record": "it writes the metrics down, and others read them there"}
GIVEN: dict[str, dict[str, Any]] = {  # stand in for what a run hands to them
    "rollout": {"engine": None, "sampling": None, "verifier": None, "seed": 0},
    "board": {"hyperparameters": {}},
}
HERE = "${hydra:"  # what begins so is known in a run only


def check_callbacks(config: DictConfig) -> None:
    """Those that no run can do without are there, and each takes its keys: it is made, and thrown away.

    Raises:
        ConfigError: one is missing, unknown, or refuses a key or a value.
    """
    for name, why in NEEDED.items():
        if not config.callbacks.get(name):
            raise ConfigError(f"callbacks.{name} is missing: {why}, and no run can do without")
    trial = config.copy()
    trial.callbacks = _without_folders(OmegaConf.to_container(config.callbacks, resolve=False))
    for name, one in trial.callbacks.items():
        if one is not None:
            build(trial.callbacks, name, **GIVEN.get(name, {}), _convert_="object")


def _without_folders(tree: Any) -> Any:
    if isinstance(tree, dict):
        return {key: _without_folders(value) for key, value in tree.items()}
    if isinstance(tree, list):
        return [_without_folders(value) for value in tree]
    return "." if isinstance(tree, str) and HERE in tree else tree


def evaluated(config: DictConfig, sets: Sequence[str]) -> list[str]:
    """The metrics of the run's evaluation of ``sets``; none where there is none."""
    evaluation = config.callbacks.get("evaluation")
    if not evaluation or not evaluation.problems:
        return []
    found = {one: names(samples_of(evaluation.samples, one)) + ["greedy"] * evaluation.greedy for one in sets}
    return [f"eval/{one}/{name}" for one, metrics in found.items() for name in metrics]


def check_objective(config: DictConfig, known: Sequence[str]) -> None:
    """The objective is a number that a run ends with."""
    one_of("objective", config.objective, ("reward", *(name for name in known if "verify/" not in name)))


def check_monitors(config: DictConfig, known: Sequence[str]) -> None:
    """A checkpoint that is picked by a number of the evaluation is due when there is one."""
    callbacks: dict[str, Any] = OmegaConf.to_container(config.callbacks, resolve=False)  # type: ignore[assignment]
    every = (callbacks.get("evaluation") or {}).get("every", 0)
    for name, one in callbacks.items():
        monitor = (one or {}).get("monitor") or ""
        if not monitor.startswith("eval/"):
            continue
        one_of(f"callbacks.{name}.monitor", monitor, tuple(known))
        due = config.callbacks[name].get("every_n_epochs") or 1
        if not every or due % every:
            raise ConfigError(
                f"callbacks.{name}.monitor={monitor} is known only every callbacks.evaluation.every={every} iterations; "
                f"callbacks.{name}.every_n_epochs={due} must be a multiple of it"
            )
