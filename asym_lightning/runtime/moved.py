"""``_target_`` paths that configs of earlier runs contain and new ones do not."""

from typing import Any

# Old path of a class that has moved -> its path today.
MOVED = {
    "asym_lightning.loggers.mlflow_logger": "asym_lightning.runtime.loggers.mlflow_logger",
    "asym_lightning.sharding.FSDP2": "asym_lightning.learner.fsdp.FSDP2",
    "asym_lightning.zero.DeepSpeed": "asym_lightning.learner.zero.DeepSpeed",
}
# Classes that a run builds itself: the settings of these parts need no path.
BUILT_BY_RUN = ("callbacks.vllm_rollout.VLLMRollout", "callbacks.record.Recorder")


def with_new_targets(tree: Any) -> Any:
    """Return nested settings with every ``_target_`` as a config has it today.

    An old path is replaced by the current one, and that of a part that a run builds itself is left
    out.
    """
    if isinstance(tree, list):
        return [with_new_targets(value) for value in tree]
    if not isinstance(tree, dict):
        return tree
    return {
        key: MOVED.get(str(value), value) if key == "_target_" else with_new_targets(value)
        for key, value in tree.items()
        if key != "_target_" or value not in BUILT_BY_RUN
    }
