"""Old ``_target_`` paths of classes that have moved; configs of earlier runs contain them."""

from typing import Any

MOVED = {
    "asym_lightning.loggers.mlflow_logger": "asym_lightning.runtime.loggers.mlflow_logger",
    "asym_lightning.sharding.FSDP2": "asym_lightning.learner.fsdp.FSDP2",
    "asym_lightning.zero.DeepSpeed": "asym_lightning.learner.zero.DeepSpeed",
}


def with_new_targets(tree: Any) -> Any:
    """Return nested settings with every ``_target_`` replaced by its current path."""
    if isinstance(tree, list):
        return [with_new_targets(value) for value in tree]
    if not isinstance(tree, dict):
        return tree
    return {
        key: MOVED.get(str(value), value) if key == "_target_" else with_new_targets(value)
        for key, value in tree.items()
    }
