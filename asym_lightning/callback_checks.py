"""What can be known to be wrong of the callbacks before anything is loaded."""

from typing import Any

from omegaconf import DictConfig, OmegaConf

from asym_lightning.loading import build
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


def check_monitors(config: DictConfig) -> None:
    """A checkpoint that is picked by a number of the evaluation is due when there is one."""
    callbacks: dict[str, Any] = OmegaConf.to_container(config.callbacks, resolve=False)  # type: ignore[assignment]
    every = (callbacks.get("evaluation") or {}).get("every", 0)
    for name, one in callbacks.items():
        monitor = (one or {}).get("monitor") or ""
        due = config.callbacks[name].get("every_n_epochs") or 1 if monitor else 1
        if monitor.startswith("eval/") and (not every or due % every):
            raise ConfigError(
                f"callbacks.{name}.monitor={monitor} is known only every callbacks.evaluation.every={every} iterations; "
                f"callbacks.{name}.every_n_epochs={due} must be a multiple of it"
            )
