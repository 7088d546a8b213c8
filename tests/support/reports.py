"""Reports of synthetic runs."""

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
    """Write runs of two methods at two learning rates with five seeds, and two odd runs.

    The odd runs are a method with a malicious name and a value of another key, and a broken run.
    """
    for seed in range(1, 6):
        for rate in (1e-4, 1e-3):
            entropy = {"grpo": 0.3 - 50 * rate, "asymgrpo": 0.35 - 50 * rate}
            reward = {
                "grpo": 0.5 + 200 * rate + 0.01 * seed,
                "asymgrpo": 0.5 + 200 * rate + 0.012 * (6 - seed),
            }
            for method in ("grpo", "asymgrpo"):
                write_run(
                    logs / f"{method}-{rate}-{seed}",
                    method,
                    seed,
                    reward=reward[method],
                    entropy=entropy[method],
                    overrides={"policy.optimizer.learning_rate": rate},
                )
    write_run(logs / "evil", EVIL, 1, overrides={"task.heldout_size": EVIL})
    broken = write_run(logs / "<b>broken", "grpo", 9)
    (broken / "metrics.csv").write_text("")
