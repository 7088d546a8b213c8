"""Runs of either side: the job, TRL's trainer and ours, each in a process of its own."""

import argparse
import json
from pathlib import Path
from typing import Any

from against.child import ROOT, run
from against.report import Side, summarised
from against.sizes import Size

# TRL's default; small enough that lengths stay as they are.
LEARNING_RATE = 1e-6
# Callbacks switched off: TRL does not do their work either.
OFF = (
    "evaluation",
    "checkpoint",
    "dynamics",
    "ledger",
    "completions",
    "throughput",
    "board",
    "policy",
)


def job_of(given: argparse.Namespace, size: Size, folder: Path) -> dict[str, Any]:
    """The job of either side, after the model and the prompts are made."""
    work = {
        key: getattr(given, key) for key in ("size", "prompts", "data", "seed", "steps", "warmup")
    } | {"folder": str(folder)}
    (folder / "work.json").write_text(json.dumps(work))
    run(["-m", "against.prepare", str(folder / "work.json")], folder / "prepare.log", given.threads)
    return {
        **work,
        **json.loads((folder / "prepared.json").read_text()),
        "group": size.group,
        "rollouts": size.rollouts,
        "max_tokens": size.max_tokens,
        "precision": given.precision or size.precision,
        "learning_rate": LEARNING_RATE,
        "own_task": size.shape is None,
        "context": size.max_tokens + min(size.prompt_tokens[1], 512),
    }


def run_trl(
    job: dict[str, Any],
    signal: str,
    settings: dict[str, Any],
    place: Path,
    threads: int,
    seconds: float | None = None,
) -> Side:
    """Train with TRL in the folder ``place``; the seconds and memory of its steps."""
    place.mkdir(parents=True)
    (place / "job.json").write_text(json.dumps({**job, "signal": signal, "trl": settings}))
    run(
        ["-m", "against.trl_side", str(place / "job.json"), str(place / "result.json")],
        place / "log",
        threads,
        seconds,
    )
    result = json.loads((place / "result.json").read_text())
    return {**summarised(result, job["warmup"]), "settings": result["settings"]}


def run_ours(
    job: dict[str, Any],
    signal: str,
    extra: tuple[str, ...],
    place: Path,
    threads: int,
    seconds: float | None = None,
) -> Side:
    """Train with train.py in the folder ``place``; the seconds and memory of its iterations."""
    overrides = [
        "algo=grpo",
        "policy=hf",
        f"policy.path={job['model']}",
        "policy.gradient_checkpointing=false",
        f"policy.optimizer.learning_rate={job['learning_rate']}",
        "policy.optimizer.weight_decay=0",
        "task=against_trl",
        f"task.path={job['problems']}",
        f"task.signal={signal}",
        f"task.own_task={str(job['own_task']).lower()}",
        f"rollout.prompts_per_iteration={job['rollouts'] // job['group']}",
        f"rollout.group_size={job['group']}",
        f"rollout.max_tokens={job['max_tokens']}",
        f"rollout.max_num_seqs={job['rollouts']}",
        f"trainer.precision={'bf16-mixed' if job['precision'] == 'bf16' else '32-true'}",
        "trainer.accelerator=cpu",
        f"trainer.max_epochs={job['warmup'] + job['steps']}",
        f"seed={job['seed']}",
        "logger=csv",
        *(f"callbacks.{name}=null" for name in OFF),
        "callbacks.record.save_rollouts_every=0",
        "+callbacks.clock._target_=against.clock.Clock",
        f"+callbacks.clock.path={place / 'result.json'}",
        f"hydra.run.dir={place}",
    ]
    replaced = {override.partition("=")[0] for override in extra}
    given = [override for override in overrides if override.partition("=")[0] not in replaced]
    configs = str(ROOT / "benchmarks" / "against" / "conf")
    command = ["train.py", "--config-dir", configs, *given, *extra]
    run(command, place.with_suffix(".log"), threads, seconds)
    result = json.loads((place / "result.json").read_text())
    return {**summarised(result, job["warmup"]), "settings": [*given, *extra]}
