"""Train small models of many architectures: `python benchmarks/architectures.py run [KIND ...]`.

Each model takes two iterations, in fp32 and in bf16, with vLLM and with transformers as engine; the
policy of the first run is exported from its checkpoint too, and must be the one in `policy/`. An
update is large (entropy bonus 1, learning rate 1e-2), so that weights that do not arrive show.
Results go to docs/results/architectures.jsonl, and runs that are there are left out: start the
command again to go on. `--only "vllm fp32"` takes some of the runs. All take about an hour and a
half on one core.

`python benchmarks/architectures.py table` prints the table of docs/extend/model.md; `classes` lists
the classes that transformers and vLLM share, and whether they are tried.
"""

import argparse
import csv
import json
import os
import re
import runpy
import shutil
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "docs" / "results" / "architectures.jsonl"
RUNS = {
    "vllm fp32": ("trainer.precision=32-true",),
    "vllm bf16": ("trainer.precision=bf16-mixed",),
    "transformers fp32": ("rollout=transformers", "trainer.precision=32-true"),
    "transformers bf16": ("rollout=transformers", "trainer.precision=bf16-mixed"),
}
EXPORTED = "vllm fp32"  # the run whose checkpoint is exported
OVERRIDES = (
    *("policy=hf", "algo=grpo_entropy", "algo.modulation.entropy_bonus.coef=1"),
    *("policy.optimizer.learning_rate=1e-2", "trainer.max_epochs=2", "trainer.accelerator=cpu"),
    *("rollout.prompts_per_iteration=4", "rollout.group_size=4", "rollout.max_tokens=16"),
    *("task.train_size=64", "callbacks.evaluation.problems=0"),
)
LIMIT_S = 1200.0


def forked(work: Callable[[], Any], log: Path) -> int:
    """Run ``work`` in a fork, with its output in ``log``; return the exit status, -9 if too slow.

    A fork has all imports of this process, which take several seconds.
    """
    pid = os.fork()
    if not pid:
        status = 1
        with log.open("wb") as file:
            for stream in (1, 2):
                os.dup2(file.fileno(), stream)
        try:
            work()
            status = 0
        except SystemExit as end:
            status = int(end.code or 0)
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stdout.flush()
            os._exit(status)
    until = time.monotonic() + LIMIT_S
    while time.monotonic() < until:
        done, status = os.waitpid(pid, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.1)
    os.kill(pid, 9)
    os.waitpid(pid, 0)
    return -9


def program(*line: str) -> Callable[[], Any]:
    """A script of the checkout, or ``-m`` and a module, as work for a fork."""

    def work() -> None:
        os.chdir(ROOT)
        if line[0] == "-m":
            sys.argv = list(line[1:])
            runpy.run_module(line[1], run_name="__main__", alter_sys=True)
        else:
            sys.argv = list(line)
            runpy.run_path(line[0], run_name="__main__")

    return work


def gaps(folder: Path) -> list[float]:
    """The mean gap (nats) of each iteration of a run."""
    with (folder / "metrics.csv").open(newline="") as file:
        cells = [row.get("engine/logprob_gap_mean") for row in csv.DictReader(file)]
    return [float(cell) for cell in cells if cell]


def reason(log: Path) -> str:
    """The line in which a command says why it ended, or the last of a traceback."""
    text = re.sub(r"\x1b\[[0-9;]*m", "", log.read_text(errors="replace"))
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    last = lines[-1] if lines else "ended without a word"
    return f"TRACEBACK: {last}" if "Traceback (most recent call last)" in text else last


def save_model(kind: str, folder: Path) -> None:
    """Write the model, and what the policy makes of it."""
    from transformers import AutoModelForCausalLM

    import architecture_models
    from asym_lightning.learner.attention import use_packed_attention

    config = architecture_models.save(kind, folder)
    model = AutoModelForCausalLM.from_pretrained(folder)
    about = {"class": config.architectures[0], "packed": use_packed_attention(model)}
    (folder / "about.json").write_text(json.dumps(about))


def exported(folder: Path, log: Path) -> str:
    """Export the checkpoint of a run, and compare its weights with those of ``policy/``."""
    from safetensors.torch import load_file

    checkpoint, target = folder / "checkpoints" / "last.ckpt", folder / "exported"
    work = program("-m", "asym_lightning.export", str(checkpoint), str(target))
    if forked(work, log):
        return reason(log)
    for path in sorted((folder / "policy").glob("*.safetensors")):
        own, other = load_file(path), load_file(target / path.name)
        different = [name for name in own if not own[name].equal(other[name])]
        if own.keys() != other.keys() or different:
            return f"{len(different)} weights differ"
    return "same"


def try_kind(kind: str, folder: Path, wanted: Sequence[str], *, verbose: bool) -> dict[str, Any]:
    """Train a model of a kind in the wanted runs; return what was seen, by run."""
    model, log = folder / "model", folder / "log"
    if forked(lambda: save_model(kind, model), log):
        return {"refused": reason(log)}
    seen: dict[str, Any] = json.loads((model / "about.json").read_text())
    for name in wanted:
        run = folder / name.replace(" ", "_")
        target = (f"policy.path={model}", f"hydra.run.dir={run}", *OVERRIDES, *RUNS[name])
        status = forked(program("train.py", *target), log)
        seen[name] = {"status": status, "gaps": gaps(run) if not status else [], "said": ""}
        if status:
            seen[name]["said"] = reason(log).replace(str(model), "FOLDER")
            if verbose:
                print(log.read_text(errors="replace")[-3000:], file=sys.stderr)
        elif name == EXPORTED:
            seen["export"] = exported(run, log)
    return seen


def run(kinds: Sequence[str], wanted: Sequence[str], results: Path, *, verbose: bool) -> None:
    """Try kinds of models in the runs that have no result yet."""
    # Imports that all forks share.
    import vllm  # noqa: F401

    import architecture_models
    import asym_lightning.commands.train  # noqa: F401

    for kind in kinds or architecture_models.MODELS:
        known = {row["kind"]: row for row in _rows(results)}
        own = known.get(kind, {"kind": kind})
        left = [name for name in wanted if name not in own]
        if "refused" in own or not left:
            continue
        folder = Path(tempfile.mkdtemp(prefix="architecture-"))
        try:
            own |= try_kind(kind, folder, left, verbose=verbose)
        finally:
            shutil.rmtree(folder, ignore_errors=True)
        known[kind] = own
        lines = [json.dumps(known[name]) + "\n" for name in sorted(known)]
        results.write_text("".join(lines))
        print(json.dumps(own), flush=True)


def _rows(results: Path) -> list[dict[str, Any]]:
    lines = results.read_text().splitlines() if results.is_file() else []
    return [json.loads(line) for line in lines]


def table(results: Path) -> str:
    """The table of docs/extend/model.md."""
    rows = [
        "| Model type | Class | Rows | vLLM fp32 | vLLM bf16 | transformers fp32 | bf16 | Export |",
        "|---|---|---|---|---|---|---|---|",
    ]
    refused = []
    for seen in _rows(results):
        if "refused" in seen:
            refused.append(f"- `{seen['kind']}` does not build: {seen['refused']}")
            continue
        cells = []
        for name in RUNS:
            run = seen.get(name)
            if run is None:
                cells.append("not run")
                continue
            cells.append(f"{max(run['gaps']):.1e}" if run["gaps"] else "refused")
            if run["said"]:
                refused.append(f"- `{seen['kind']}`, {name}: {run['said']}")
        form = "packed" if seen["packed"] else "padded"
        cells = [f"`{seen['kind']}`", seen["class"], form, *cells, seen.get("export", "")]
        rows.append(f"| {' | '.join(cells)} |")
    return "\n".join([*rows, "", *refused])


def classes() -> None:
    """List the classes of causal language models that transformers and vLLM share."""
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES as known
    from vllm import ModelRegistry

    import architecture_models

    shared = ModelRegistry.get_supported_archs()
    for kind, name in sorted(known.items()):
        if name in shared:
            print(kind, name, "tried" if kind in architecture_models.MODELS else "NOT TRIED")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("what", choices=("run", "table", "classes"))
    parser.add_argument("kinds", nargs="*")
    parser.add_argument("--only", nargs="*", choices=tuple(RUNS), default=tuple(RUNS))
    parser.add_argument("--results", type=Path, default=RESULTS)
    parser.add_argument("-v", action="store_true", help="show the output of runs that fail")
    given = parser.parse_args()
    if given.what == "classes":
        classes()
    elif given.what == "table":
        print(table(given.results))
    else:
        run(given.kinds, given.only, given.results, verbose=given.v)


if __name__ == "__main__":
    main()
