"""Iterations of a policy of 1.7 billion parameters on one GPU, engine beside the learner.

The command is `python benchmarks/one_gpu.py`. The engine is in the trainer's process, or a server
on the trainer's GPU.

The policy is a random Qwen3 of the shape of Qwen3-1.7B that ends a completion with the same
probability at every position (benchmarks/against/model.py): lengths are geometric, cut at 1,024
tokens, 400 in the mean. Rewards are functions of prompt and completion alone, a fifth of the groups
has no signal, and nothing is learned. Every case is a run of train.py with all computations of a
run, without evaluation and checkpoints. Seconds are means over all iterations but the first, with
the least and the most of an iteration. GiB are the peaks of each phase on the device, by all owners
of memory, and those of torch's tensors of the learner alone.
"""

import argparse
import csv
import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from against.child import ROOT, ChildError, run
from against.sizes import SIZES

SERVER = (
    "rollout=servers",
    "rollout.servers.transfer=ipc",
    "rollout.gpu_memory_utilization=0.35",
    "rollout.enforce_eager=false",
)
CASES = {
    "asleep while the policy learns, graphs": (
        "rollout.sleep=true",
        "rollout.gpu_memory_utilization=0.5",
        "rollout.enforce_eager=false",
    ),
    "awake, graphs": ("rollout.gpu_memory_utilization=0.4", "rollout.enforce_eager=false"),
    "asleep while the policy learns, eager": (
        "rollout.sleep=true",
        "rollout.gpu_memory_utilization=0.5",
    ),
    "awake, eager": ("rollout.gpu_memory_utilization=0.4",),
    "a server on the same GPU, graphs": SERVER,
    "the same, made an iteration ahead": (*SERVER, "rollout.staleness=1"),
}
TIMES = ("sync", "generate", "verify", "wait", "learn", "log", "iteration")
GIB = 2**30


def prepare(given: argparse.Namespace, folder: Path) -> dict[str, str]:
    """The model's folder and the file of prompts."""
    work = {
        "size": given.size,
        "prompts": given.prompts,
        "data": None,
        "seed": 1,
        "steps": 1,
        "warmup": 0,
        "folder": str(folder),
    }
    (folder / "work.json").write_text(json.dumps(work))
    try:
        run(
            ["-m", "against.prepare", str(folder / "work.json")],
            folder / "prepare.log",
            seconds=given.seconds,
        )
    except ChildError as error:
        sys.exit(f"error: the model could not be made: {error}")
    return json.loads((folder / "prepared.json").read_text())


def measure(
    name: str, given: argparse.Namespace, made: dict[str, str], folder: Path
) -> dict[str, Any]:
    """One case."""
    size = SIZES[given.size].scaled(given.prompts, given.max_tokens)
    place = folder / f"case-{list(CASES).index(name)}"
    overrides = [
        *("algo=asymgrpo", "policy=hf", f"policy.path={made['model']}", f"trainer={given.trainer}"),
        *(
            "task=against_trl",
            f"task.path={made['problems']}",
            f"rollout.prompts_per_iteration={size.prompts}",
        ),
        *(
            f"rollout.group_size={size.group}",
            f"rollout.max_tokens={size.max_tokens}",
            f"rollout.max_num_seqs={size.rollouts}",
        ),
        *(
            f"trainer.max_epochs={1 + given.iterations}",
            "logger=csv",
            "callbacks.evaluation=null",
            "callbacks.policy=null",
        ),
        "callbacks.checkpoint=null",
        *(
            "+callbacks.memory._target_=against.device.DeviceMemory",
            f"+callbacks.memory.path={place / 'memory.json'}",
        ),
        *(f"hydra.run.dir={place}", *CASES[name], *given.overrides),
    ]
    if given.trainer == "cpu":  # tries out this file
        overrides = [
            one for one in overrides if not one.startswith(("+callbacks.memory", "rollout.sleep"))
        ]
    command = [
        "train.py",
        "--config-dir",
        str(ROOT / "benchmarks" / "against" / "conf"),
        *overrides,
    ]
    begun, failed = time.perf_counter(), ""
    try:
        run(command, place.with_suffix(".log"), seconds=given.seconds)
    except ChildError as error:
        failed = str(error)
    found: dict[str, Any] = {
        "case": name,
        "overrides": overrides,
        "seconds": time.perf_counter() - begun,
        "failed": failed,
    }
    metrics = place / "metrics.csv"
    if metrics.exists():
        with metrics.open() as file:
            found["iterations"] = [
                {key: float(value) for key, value in row.items() if value}
                for row in csv.DictReader(file)
            ]
    if (place / "memory.json").exists():
        found["memory"] = json.loads((place / "memory.json").read_text())
    return found


def row(found: dict[str, Any]) -> str:
    """A case as a row of the table."""
    rows = found.get("iterations", [])[1:]
    if found["failed"] or not rows:
        return f"| {found['case']} | failed: {found['failed']} |"

    def mean(name: str) -> float:
        return sum(one.get(name, 0.0) for one in rows) / len(rows)

    most = found.get("memory", {}).get("most", {})
    whole = [one["time/iteration"] for one in rows]
    cells = [
        *(f"{mean(f'time/{name}'):.2f}" for name in TIMES),
        f"{min(whole):.2f} to {max(whole):.2f}",
    ]
    cells += [
        f"{mean('throughput/tokens_per_s'):,.0f}",
        f"{mean('throughput/mfu'):.2f}",
        f"{mean('memory/peak_gib'):.1f}",
    ]
    cells += [f"{most.get(phase, 0) / GIB:.1f}" for phase in ("sync", "generate", "learn")]
    gap = max(one.get("engine/logprob_gap_max", 0.0) for one in rows)
    return "| " + " | ".join([found["case"], *cells, f"{gap:.3f}"]) + " |"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--size", default="1.7B", choices=[name for name, size in SIZES.items() if size.shape]
    )
    parser.add_argument(
        "--cases",
        nargs="+",
        type=int,
        default=list(range(len(CASES))),
        help=f"some of {dict(enumerate(CASES))}",
    )
    parser.add_argument("--iterations", type=int, default=2, help="after the first (default: 2)")
    parser.add_argument("--prompts", type=int, default=None)
    parser.add_argument("--max-tokens", type=int, default=None)
    parser.add_argument("--trainer", default="gpu", choices=("gpu", "cpu"))
    parser.add_argument(
        "--seconds", type=float, default=900, help="the longest that one case may take"
    )
    parser.add_argument("--json", type=Path, default=None, help="write everything here")
    parser.add_argument("overrides", nargs="*", help="of every run, after `--`")
    given = parser.parse_args()
    columns = [
        *(f"{name} s" for name in TIMES),
        "least and most",
        "tokens/s",
        "MFU",
        "learner GiB",
        "sync GiB",
        "generate GiB",
        "learn GiB",
        "largest gap",
    ]
    everything = []
    with tempfile.TemporaryDirectory() as temporary:
        made = prepare(given, Path(temporary))
        print(
            f"{int(made['parameters']):,} parameters, prompts of {made['prompt_tokens']} tokens",
            flush=True,
        )
        print(
            "| case | " + " | ".join(columns) + " |\n" + "|---" * (len(columns) + 1) + "|",
            flush=True,
        )
        for number in given.cases:
            found = measure(list(CASES)[number], given, made, Path(temporary))
            everything.append(found)
            print(row(found), flush=True)
            if found["failed"]:
                print(
                    (Path(temporary) / f"case-{number}.log").read_text(errors="replace")[-3000:],
                    file=sys.stderr,
                    flush=True,
                )
            if given.json:
                given.json.write_text(json.dumps({"prepared": made, "cases": everything}, indent=1))


if __name__ == "__main__":
    main()
