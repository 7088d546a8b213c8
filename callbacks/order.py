"""The order in which the callbacks of a run act, whatever the order of the config."""

from collections.abc import Mapping, Sequence

from lightning import Callback
from lightning.pytorch.callbacks import Checkpoint

# Names under ``callbacks`` in the config.
ORDER = (
    "watchdog",  # marks the beginning of a phase before others act in it
    # These add to the iteration, before the recorder closes it.
    "dynamics",
    "ledger",
    "completions",
    "throughput",
    "record",  # its clock starts before the rollouts
    "rollout",
    # These read what the recorder has.
    "evaluation",
    "policy",
    "board",
    "progress",
    "guards",
    "checkpoint",
)


def in_order(named: Mapping[str, Callback], others: Sequence[Callback] = ()) -> list[Callback]:
    """Return callbacks in the order in which they act.

    First those that ``ORDER`` names, then all others, and checkpoints last of all, as Lightning
    has them. A callback of a user's own whose class has ``adds_metrics = True`` comes before the
    recorder, so that a metric that it adds at the end of an iteration is one of that iteration.

    Args:
        named: callbacks by their names in the config.
        others: callbacks without a name there.
    """

    def place(item: tuple[str | None, Callback]) -> tuple[bool, float]:
        name, callback = item
        if name in ORDER:
            position: float = ORDER.index(name)
        elif getattr(callback, "adds_metrics", False):
            position = ORDER.index("record") - 0.5
        else:
            position = len(ORDER)
        return isinstance(callback, Checkpoint), position

    items = [*named.items(), *((None, callback) for callback in others)]
    return [callback for _, callback in sorted(items, key=place)]
