"""Draw the runs of benchmarks/seeds.py.

The command is `python benchmarks/picture.py --out docs/images/demo.png`.
"""

import argparse
from pathlib import Path

import matplotlib.pyplot as plt
import pandas as pd

ROOT = Path(__file__).resolve().parent.parent
PANELS = {
    "reward/mean": "training reward",
    "entropy/policy": "policy entropy (nats)",
    "solved/none": "prompts with none solved",
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--folder",
        type=Path,
        default=ROOT / "logs" / "seeds",
        help="where benchmarks/seeds.py put the runs",
    )
    parser.add_argument("--algo", nargs="+", default=["asymgrpo", "grpo"])
    parser.add_argument("--window", type=int, default=10, help="iterations of the running mean")
    parser.add_argument("--out", type=Path, required=True)
    given = parser.parse_args()
    figure, axes = plt.subplots(1, len(PANELS), figsize=(11, 3.2), layout="constrained")
    for color, algo in zip(
        plt.rcParams["axes.prop_cycle"].by_key()["color"], given.algo, strict=False
    ):
        runs = [
            pd.read_csv(path).dropna(subset=["reward/mean"])
            for path in sorted(given.folder.glob(f"{algo}-seed*/metrics.csv"))
        ]
        for axis, (name, title) in zip(axes, PANELS.items(), strict=True):
            smooth = pd.concat(
                [run.set_index("step")[name].rolling(given.window).mean() for run in runs], axis=1
            )
            for seed in smooth:
                axis.plot(smooth.index, smooth[seed], color=color, alpha=0.35, linewidth=0.8)
            axis.plot(
                smooth.index, smooth.mean(axis=1), color=color, label=f"{algo} ({len(runs)} seeds)"
            )
            axis.set(title=title, xlabel="iteration")
    axes[0].legend()
    figure.savefig(given.out, dpi=120)


if __name__ == "__main__":
    main()
