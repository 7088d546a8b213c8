"""The runs of the study: parts, each a sweep of conf/sweep/study with a recipe.

A recipe is a file of conf/experiment/study.
"""

import sys
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from math import prod
from pathlib import Path

import yaml

from asym_lightning.learner.embedded import EmbeddedSettings, embedded_policy

ROOT = Path(__file__).resolve().parents[2]
RATES = (7.5e-5, 1.5e-4, 3e-4, 6e-4, 1.2e-3)
MIDDLE = 3e-4  # where only one learning rate was run


@dataclass(frozen=True)
class Part:
    """One sweep of the study; its runs go into a folder of its name.

    Args:
        sweep: a file of conf/sweep/study.
        recipe: a file of conf/experiment/study.
        warm_start: the seed of the embedded policy's warm start; 0 is the one that every run has.
    """

    name: str
    sweep: str
    recipe: str = "pairs"
    warm_start: int = 0

    @property
    def params(self) -> dict[str, list[str]]:
        """Key -> values tried, the seed among them."""
        found = yaml.safe_load(
            (ROOT / "conf" / "sweep" / "study" / f"{self.sweep}.yaml").read_text()
        )
        return {
            key: str(value).split(",") for key, value in found["hydra"]["sweeper"]["params"].items()
        }

    @property
    def seeds(self) -> list[int]:
        return [int(seed) for seed in self.params["seed"]]

    @property
    def arms(self) -> int:
        """Runs per seed."""
        return prod(len(values) for key, values in self.params.items() if key != "seed")

    def command(self, seeds: Sequence[int], folder: Path, parallel: int) -> list[str]:
        """The command that runs these seeds into ``folder``; it leaves out complete runs there."""
        launcher = (
            ["hydra/launcher=joblib", f"hydra.launcher.n_jobs={parallel}"] if parallel > 1 else []
        )
        policy = (
            [f"policy.path={embedded_policy(EmbeddedSettings(seed=self.warm_start))}"]
            if self.warm_start
            else []
        )
        return [
            *(
                sys.executable,
                str(ROOT / "train.py"),
                f"experiment=study/{self.recipe}",
                f"sweep=study/{self.sweep}",
            ),
            *(
                *policy,
                f"seed={','.join(map(str, seeds))}",
                f"hydra.sweep.dir={folder / self.name}",
                *launcher,
            ),
        ]


QUICK = (Part("quick", "quick", "quick"),)
FULL = (
    Part("frontier", "frontier"),
    Part("chain", "chain", "chain"),
    Part("exponents", "exponents"),
    Part("rivals", "rivals"),
    Part("two_updates", "two_updates"),
    Part("entropy", "entropy"),
    Part("coefficients", "coefficients"),
    Part("scale", "scale"),
    Part("degenerate", "degenerate"),
    Part("group_of_4", "group_of_4"),
    Part("group_of_16", "group_of_16"),
    Part("iterations_50", "iterations_50"),
    Part("iterations_200", "iterations_200"),
    Part("warm_start_1", "warm_start", warm_start=1),
    Part("warm_start_2", "warm_start", warm_start=2),
)


def pending(part: Part, seeds: Sequence[int], done: Collection[tuple[str, int]]) -> list[int]:
    """The seeds of ``part`` that lack a run, among ``seeds`` (all if empty).

    ``done`` has (part, seed) once for each run.
    """
    found = list(done)
    return [
        seed
        for seed in part.seeds
        if (not seeds or seed in seeds) and found.count((part.name, seed)) < part.arms
    ]
