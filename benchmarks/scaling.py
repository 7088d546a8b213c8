"""The gain of processes: `OMP_NUM_THREADS=1 python benchmarks/scaling.py --json scaling.json`.

    overlap    seconds of an iteration with one server: rollouts when they are needed (staleness 0)
               against rollouts made ahead (staleness 1), and with the colocated engine. An
               iteration is at least the longer of making rollouts and learning; bookkeeping is the
               work of the main thread to have them made ahead (weights published, the probe
               scored)
    processes  tokens/s of two ranks against one, each with a core of its own, per phase and for
               the whole iteration

Every case is a run of its own on the embedded task with `algo=reinforce`, which learns from every
token. Medians over iterations, the first ones left out. Other work on the machine spoils the
numbers: each process needs its core.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import pandas as pd

ROOT = Path(__file__).resolve().parent.parent
COMMON = (
    "algo=reinforce",
    "callbacks.evaluation=null",
    "callbacks.completions=null",
    "callbacks.checkpoint=null",
)
WARM_UP = 5
PHASES = ("sync", "load", "generate", "verify", "wait", "score", "learn", "log", "iteration")


def medians(name: str, overrides: list[str], cores: int, iterations: int) -> dict[str, float]:
    """Median seconds per phase of a run of ``train.py`` on ``cores`` cores.

    It returns also the median number of tokens generated per iteration.
    """
    with tempfile.TemporaryDirectory() as folder:
        command = [
            sys.executable,
            "train.py",
            *COMMON,
            *overrides,
            f"trainer.max_epochs={iterations + WARM_UP}",
            f"hydra.run.dir={folder}/run",
        ]
        mine = sorted(os.sched_getaffinity(0))[:cores]
        subprocess.run(
            ["taskset", "-c", ",".join(map(str, mine)), *command],
            cwd=ROOT,
            check=True,
            stdout=subprocess.DEVNULL,
        )
        table = pd.read_csv(Path(folder) / "run" / "metrics.csv").iloc[WARM_UP:]
    found = {
        phase: float(table[f"time/{phase}"].median())
        for phase in PHASES
        if f"time/{phase}" in table
    }
    found["tokens"] = float((table["throughput/tokens_per_s"] * table["time/iteration"]).median())
    print(
        f"{name}: "
        + "  ".join(
            f"{phase} {1e3 * seconds:.1f}" for phase, seconds in found.items() if phase != "tokens"
        )
        + " ms",
        flush=True,
    )
    return found


def larger_policy(folder: Path) -> Path:
    """A policy of random weights, so large that most of the time is arithmetic and not Python."""
    from asym_lightning.learner.embedded import EmbeddedSettings, build_model, byte_tokenizer

    settings = EmbeddedSettings(
        hidden_size=256, layers=4, intermediate_size=1024, heads=8, kv_heads=4
    )
    tokenizer = byte_tokenizer()
    build_model(settings, tokenizer).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def overlap(given: argparse.Namespace) -> dict[str, Any]:
    """Iterations with rollouts made when they are needed and made ahead."""
    with tempfile.TemporaryDirectory() as folder:
        size = [
            f"policy.path={larger_policy(Path(folder))}",
            "rollout.prompts_per_iteration=12",
            "rollout.max_num_seqs=96",
        ]
        cases: dict[str, list[str]] = {
            "colocated": [],
            "servers": ["rollout=servers"],
            "ahead": ["rollout=servers", "rollout.staleness=1"],
        }
        found = {
            name: medians(name, [*more, *size], 2, given.iterations) for name, more in cases.items()
        }
    now, ahead = found["servers"], found["ahead"]
    made = sum(ahead[phase] for phase in ("load", "generate", "verify"))
    rate, bookkeeping = now["iteration"] / ahead["iteration"], ahead["sync"] / ahead["iteration"]
    print(
        f"ahead: making rollouts {1e3 * made:.1f} ms beside learning {1e3 * ahead['learn']:.1f} "
        f"ms; {rate:.2f} of the step rate"
    )
    print(
        f"{max(made, ahead['learn']) / ahead['iteration']:.1%} of an iteration is the longer of "
        f"the two, {bookkeeping:.1%} bookkeeping"
    )
    return {"cases": found, "rate": rate, "bookkeeping": bookkeeping}


def processes(given: argparse.Namespace) -> dict[str, Any]:
    """One rank on one core against two ranks on two."""
    size = [
        f"rollout.prompts_per_iteration={given.prompts}",
        f"policy.prompts_per_mini_batch={given.prompts}",
        "rollout.max_num_seqs=512",
    ]
    one = medians("one rank", ["trainer.devices=1", *size], 1, given.iterations)
    two = medians("two ranks", ["trainer.devices=2", *size], 2, given.iterations)
    gains = {
        phase: (two["tokens"] / two[phase]) / (one["tokens"] / one[phase])
        for phase in ("generate", "learn", "iteration")
    }
    print(
        "tokens/s of two over one: "
        + ", ".join(f"{phase} {gain:.2f}" for phase, gain in gains.items())
    )
    return {"one": one, "two": two, "gains": gains}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("parts", nargs="*", default=["overlap", "processes"])
    parser.add_argument(
        "--prompts",
        type=int,
        default=192,
        help="of `processes` per iteration, eight completions each",
    )
    parser.add_argument("--iterations", type=int, default=40)
    parser.add_argument("--repeats", type=int, default=1)
    parser.add_argument("--json", type=Path, default=None, help="write everything here")
    given = parser.parse_args()
    if len(os.sched_getaffinity(0)) < 2:
        sys.exit("error: two cores are needed")
    parts = {"overlap": overlap, "processes": processes}
    found: dict[str, list[Any]] = {
        part: [parts[part](given) for _ in range(given.repeats)] for part in given.parts
    }
    if given.repeats > 1:
        for part, key in (("overlap", "rate"), ("overlap", "bookkeeping")):
            values = [one[key] for one in found.get(part, [])]
            if values:
                print(
                    f"{key}: median {statistics.median(values):.3f}, from {min(values):.3f} to "
                    f"{max(values):.3f}"
                )
    if given.json:
        given.json.parent.mkdir(parents=True, exist_ok=True)
        given.json.write_text(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
