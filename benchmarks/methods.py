"""Every method of conf/algo on the embedded task: `python benchmarks/methods.py`.

All have the same budget and several seeds. Missing runs are made as a sweep of `train.py` (a
finished run is not repeated); then a table and a picture are written. All runs take two updates per
iteration, so that ratios, clips and distances to the old policy are active.
"""

import argparse
import json
import platform
import statistics
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

ROOT = Path(__file__).resolve().parent.parent
FAMILIES = {
    "the paper's table": [
        "grpo",
        "asymgrpo",
        "reinforce",
        "dr_grpo",
        "grpo_clip_higher",
        "grpo_entropy",
        "asymgrpo_clip_higher",
    ],
    "the paper's ablations": [
        "grpo",
        "asymgrpo",
        "pos_only",
        "neg_only",
        "ent_decrease",
        "ent_increase",
    ],
    "combinations, zero-sum and steered": [
        *(
            "grpo",
            "asymgrpo",
            "asymgrpo_entropy",
            "asymgrpo_kl_cov",
            "asymgrpo_top_entropy",
            "asymgrpo_adaptive",
        ),
        *("zero_sum_pos", "zero_sum_neg"),
    ],
    "shapes of p": [
        "grpo",
        "asymgrpo",
        "psr",
        "nsr",
        "w_reinforce",
        "maxrl",
        "f_grpo",
        "qae",
        "pass_at_k",
    ],
    "baselines and batch statistics": [
        "grpo",
        "asymgrpo",
        "rloo",
        "reinforce_pp",
        "reinforce_pp_baseline",
        "a_grae",
        "fade",
    ],
    "policy losses and recipes": ["grpo", "asymgrpo", "gspo", "cispo", "sapo", "grpo_kl", "dapo"],
    "entropy controls": [
        *(
            "grpo",
            "asymgrpo",
            "adaptive_entropy",
            "clip_cov",
            "kl_cov",
            "top_entropy",
            "entropy_advantage",
            "siren",
            "aepo",
        ),
    ],
}
CURVES = {
    "reward/mean": "reward",
    "entropy/policy": "entropy (nats)",
    "solved/none": "prompts with none solved",
}
OTHER_COLORS = [
    "tab:blue",
    "tab:orange",
    "tab:green",
    "tab:purple",
    "tab:brown",
    "tab:cyan",
    "tab:olive",
    "tab:pink",
]
Summary = dict[str, Any]
COLUMNS: dict[str, Callable[[Summary], float]] = {
    "reward": lambda s: s["reward"]["last"],
    "entropy": lambda s: s["entropy"]["last"],
    "none solved": lambda s: s["solved_none"]["last"],
    "pass@1": lambda s: s["evaluation"]["after"]["eval/heldout/pass@1"],
    "pass@8": lambda s: s["evaluation"]["after"]["eval/heldout/pass@8"],
    "tokens generated": lambda s: s["generated_tokens"] / 1e6,
}


def methods() -> list[str]:
    return sorted(path.stem for path in (ROOT / "conf" / "algo").glob("*.yaml"))


def sweep(
    names: list[str], seeds: list[int], folder: Path, overrides: list[str], parallel: int
) -> None:
    """Run what is not there yet."""
    command = [
        sys.executable,
        "train.py",
        "-m",
        f"algo={','.join(names)}",
        f"seed={','.join(map(str, seeds))}",
        f"hydra.sweep.dir={folder}",
    ]
    launcher = (
        ["hydra/launcher=joblib", f"hydra.launcher.n_jobs={parallel}"] if parallel > 1 else []
    )
    status = subprocess.run([*command, *launcher, *overrides], cwd=ROOT, check=False).returncode
    if status:
        sys.exit(status)


def table(summaries: dict[str, list[Summary]]) -> str:
    """One row per method, mean and sample standard deviation over seeds."""
    lines = ["| `algo=` | " + " | ".join(COLUMNS) + " |", "|---|" + "---|" * len(COLUMNS)]
    for name, runs in summaries.items():
        cells = []
        for get in COLUMNS.values():
            values = [get(s) for s in runs]
            spread = f" ± {statistics.stdev(values):.3f}" if len(values) > 1 else ""
            cells.append(f"{statistics.mean(values):.3f}{spread}")
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def draw(folder: Path, seeds: list[int], target: Path) -> None:
    """Draw a row per family and a column per curve.

    A line is the mean over seeds of a running mean over ten iterations, with a band from lowest to
    highest.
    """
    import matplotlib.pyplot as plt

    others = [name for name in methods() if not any(name in family for family in FAMILIES.values())]
    families = {**FAMILIES, **({"others": ["grpo", "asymgrpo", *others]} if others else {})}
    figure, axes = plt.subplots(
        len(families),
        len(CURVES),
        figsize=(15, 3.2 * len(families)),
        layout="constrained",
        sharex=True,
    )
    for row, (family, names) in zip(axes, families.items(), strict=True):
        for i, name in enumerate(names):
            tables = [
                pd.read_csv(folder / f"{name}-seed{seed}" / "metrics.csv").dropna(
                    subset=["reward/mean"]
                )
                for seed in seeds
            ]
            for axis, (metric, label) in zip(row, CURVES.items(), strict=True):
                lines = np.stack(
                    [t[metric].rolling(10, min_periods=1).mean().to_numpy() for t in tables]
                )
                color = {"grpo": "black", "asymgrpo": "tab:red"}.get(
                    name, OTHER_COLORS[(i - 2) % len(OTHER_COLORS)]
                )
                axis.plot(
                    lines.mean(0),
                    label=name,
                    color=color,
                    linewidth=2.2 if name in ("grpo", "asymgrpo") else 1.2,
                )
                axis.fill_between(
                    range(lines.shape[1]),
                    lines.min(0),
                    lines.max(0),
                    color=color,
                    alpha=0.1,
                    linewidth=0,
                )
                axis.set(ylabel=label)
        row[0].set_title(family, loc="left", fontweight="bold")
        row[-1].legend(loc="center left", bbox_to_anchor=(1.0, 0.5), fontsize=9)
    for axis in axes[-1]:
        axis.set(xlabel="iteration")
    figure.savefig(target, dpi=80)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", nargs="+", type=int, default=[1, 2, 3])
    parser.add_argument("--iterations", type=int, default=80)
    parser.add_argument("--parallel", type=int, default=2, help="runs at a time")
    parser.add_argument(
        "--folder", type=Path, default=ROOT / "logs" / "methods", help="where the runs go"
    )
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "results" / "methods.md")
    given = parser.parse_args()
    folder = given.folder.resolve()
    folder.mkdir(parents=True, exist_ok=True)
    names = methods()
    overrides = [
        f"trainer.max_epochs={given.iterations}",
        "policy.prompts_per_mini_batch=16",
        "callbacks.checkpoint.every_n_epochs=1000",
    ]
    overrides += ["callbacks.record.save_rollouts_every=0"]
    sweep(names, given.seeds, folder, overrides, given.parallel)
    summaries = {
        n: [json.loads((folder / f"{n}-seed{s}" / "summary.json").read_text()) for s in given.seeds]
        for n in names
    }
    first = summaries["grpo"][0]
    versions = ", ".join(f"{name} {v}" for name, v in first["versions"].items() if v)
    picture = given.out.parent.parent / "images" / "methods.png"
    picture.parent.mkdir(parents=True, exist_ok=True)
    given.out.parent.mkdir(parents=True, exist_ok=True)
    draw(folder, given.seeds, picture)
    start = [s["reward"]["first"] for s in summaries["grpo"]]
    text = [
        "# Every method on the embedded task",
        "`OMP_NUM_THREADS=1 python benchmarks/methods.py --seeds "
        f"{' '.join(map(str, given.seeds))} --iterations {given.iterations}`",
        f"{given.iterations} iterations of 32 prompts times 8 rollouts, two updates each, "
        f"learning rate {first['config']['policy']['optimizer']['learning_rate']:g}; mean ± "
        f"sample standard deviation over seeds {', '.join(map(str, given.seeds))}. Reward, "
        "entropy (nats) and share of prompts with none solved: last ten iterations, on training "
        "prompts before any selection; pass@1 and pass@8: 256 held-out problems, 8 samples each, "
        "temperature 1, last weights; tokens generated in millions. GRPO's reward over its first "
        f"ten iterations: {statistics.mean(start):.3f}.",
        "One learning rate for all: methods differ in scale, so a difference here may be one of "
        "step size (`algo.equal_scale=true` is the control). Three seeds: differences of the size "
        "of the spreads say nothing.",
        table(summaries),
        "![reward, entropy and none-solved share of every method](../images/methods.png)",
        "Running means over ten iterations; line: mean over seeds, band: lowest to highest. GRPO "
        "(black) and AsymGRPO (red) in each row.",
        f"{platform.machine()}, 2 cores; {versions}; revision {first['git_revision']}.",
    ]
    given.out.write_text("\n\n".join(text) + "\n")
    print(f"wrote {given.out} and {picture}")


if __name__ == "__main__":
    main()
