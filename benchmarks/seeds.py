"""Methods times seeds on the embedded task.

`python benchmarks/seeds.py --algo asymgrpo grpo --seeds 1 2 3` runs `train.py` once for each pair
(a finished run in the folder is not repeated), then writes a table of mean and sample standard
deviation over seeds, and every run, as Markdown.
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

ROOT = Path(__file__).resolve().parent.parent
Summary = dict[str, Any]
COLUMNS: dict[str, Callable[[Summary], float]] = {
    "reward, first 10": lambda s: s["reward"]["first"],
    "reward, last 10": lambda s: s["reward"]["last"],
    "entropy, first 10": lambda s: s["entropy"]["first"],
    "entropy, last 10": lambda s: s["entropy"]["last"],
    "none solved, last 10": lambda s: s["solved_none"]["last"],
    "pass@1 before": lambda s: s["evaluation"]["before"]["eval/heldout/pass@1"],
    "pass@1 after": lambda s: s["evaluation"]["after"]["eval/heldout/pass@1"],
    "pass@8 before": lambda s: s["evaluation"]["before"]["eval/heldout/pass@8"],
    "pass@8 after": lambda s: s["evaluation"]["after"]["eval/heldout/pass@8"],
    "largest log-prob gap": lambda s: s["logprob_gap_max"],
    "RL seconds": lambda s: s["seconds_by_phase"]["iteration"],
}


def run(algo: str, seed: int, folder: Path, overrides: list[str]) -> Summary:
    """The summary of one run, made now unless it is there."""
    target = folder / f"{algo}-seed{seed}"
    if not (target / "summary.json").exists():
        command = [
            sys.executable,
            "train.py",
            f"algo={algo}",
            f"seed={seed}",
            f"hydra.run.dir={target}",
            *overrides,
        ]
        subprocess.run(command, cwd=ROOT, check=True)
    return json.loads((target / "summary.json").read_text())


def cell(values: list[float]) -> str:
    """Mean and sample standard deviation; tiny numbers keep their exponent."""
    form = ".1e" if max(map(abs, values)) < 1e-3 else ".0f" if max(values) > 10 else ".3f"
    spread = f" ± {statistics.stdev(values):{form}}" if len(values) > 1 else ""
    return f"{statistics.mean(values):{form}}{spread}"


def table(rows: dict[str, list[Summary]]) -> str:
    """One column per row of ``rows``, one line per number."""
    lines = ["| | " + " | ".join(rows) + " |", "|---|" + "---|" * len(rows)]
    lines += [
        f"| {name} | " + " | ".join(cell([get(s) for s in runs]) for runs in rows.values()) + " |"
        for name, get in COLUMNS.items()
    ]
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--algo", nargs="+", default=["asymgrpo", "grpo"])
    parser.add_argument("--seeds", nargs="+", type=int, default=[1, 2, 3])
    parser.add_argument(
        "--folder", type=Path, default=ROOT / "logs" / "seeds", help="where the runs go"
    )
    parser.add_argument("--out", type=Path, default=None, help="a Markdown file; none prints only")
    parser.add_argument("overrides", nargs="*", help="further overrides for every run")
    given = parser.parse_args()
    runs = {
        algo: [run(algo, seed, given.folder.resolve(), given.overrides) for seed in given.seeds]
        for algo in given.algo
    }
    any_run = next(iter(runs.values()))[0]
    versions = ", ".join(f"{name} {v}" for name, v in any_run["versions"].items() if v)
    seeds = " ".join(map(str, given.seeds))
    text = "\n\n".join(
        [
            f"`python benchmarks/seeds.py --algo {' '.join(given.algo)} --seeds {seeds} "
            f"{' '.join(given.overrides)}".rstrip()
            + "`",
            f"Mean ± sample standard deviation over seeds {seeds}. {platform.machine()}, "
            f"{any_run['iterations']} iterations; {versions}; revision {any_run['git_revision']}.",
            table(runs),
            "Every run:",
            table(
                {
                    f"{algo}, seed {s['seed']}": [s]
                    for algo, summaries in runs.items()
                    for s in summaries
                }
            ),
        ]
    )
    print(text)
    if given.out:
        given.out.parent.mkdir(parents=True, exist_ok=True)
        given.out.write_text(text + "\n")


if __name__ == "__main__":
    main()
