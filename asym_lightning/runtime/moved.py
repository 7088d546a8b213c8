"""Classes that configs name by ``_target_`` and that have moved: runs of before are read by the names of today."""

from typing import Any

MOVED = {
    "asym_lightning.loggers.mlflow_logger": "asym_lightning.runtime.loggers.mlflow_logger",
    "asym_lightning.sharding.FSDP2": "asym_lightning.learner.fsdp.FSDP2",
    "asym_lightning.zero.DeepSpeed": "asym_lightning.learner.zero.DeepSpeed",
}


def with_new_targets(tree: Any) -> Any:
    """Nested settings with every ``_target_`` as it is called today."""
    if isinstance(tree, list):
        return [with_new_targets(value) for value in tree]
    if not isinstance(tree, dict):
        return tree
    return {key: MOVED.get(str(value), value) if key == "_target_" else with_new_targets(value) for key, value in tree.items()}
