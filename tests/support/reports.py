"""Reports of made-up runs."""

from collections.abc import Callable
from pathlib import Path

from asym_lightning.analysis.comparison import lay_side_by_side
from asym_lightning.analysis.outputs import write
from asym_lightning.analysis.runs import read_runs
from tests.support.synthetic import write_run

EVIL = '<script>document.title="owned"</script>&$x_{$'


def report(folder: Path, fill: Callable[[Path], object]) -> Path:
    fill(folder / "logs")
    write(lay_side_by_side(*read_runs([folder / "logs"])), folder / "report")
    return folder / "report"


def five_seeds(logs: Path) -> None:
    """Two methods at two learning rates, a method with a name that no one should have, a broken run, an unequal key."""
    for seed in range(1, 6):
        for rate in (1e-4, 1e-3):
            given = {"policy.optimizer.learning_rate": rate}
            low, high = 0.5 + 200 * rate + 0.01 * seed, 0.5 + 200 * rate + 0.012 * (6 - seed)
            write_run(logs / f"grpo-{rate}-{seed}", "grpo", seed, reward=low, entropy=0.3 - 50 * rate, overrides=given)
            write_run(logs / f"asymgrpo-{rate}-{seed}", "asymgrpo", seed, reward=high, entropy=0.35 - 50 * rate, overrides=given)
    write_run(logs / "evil", EVIL, 1, overrides={"task.heldout_size": EVIL})
    (write_run(logs / "<b>broken", "grpo", 9) / "metrics.csv").write_text("")
