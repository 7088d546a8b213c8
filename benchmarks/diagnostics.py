"""The cost of all diagnostics together: `python benchmarks/diagnostics.py`.

Iterations with and without diagnostics alternate in one run. Measured is the iteration as a unit,
from the start of its rollouts to its metrics, in wall-clock seconds and in processor seconds, which
say more if the machine does other work. Metrics that need only the rollouts (`measure_groups`) are
computed in every iteration; their time is subtracted from the iterations without diagnostics.
`scoring` is the time of the model for diagnostics alone: some of the rollouts without a learning
signal, and the ledger's groups after an update.
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from hydra import compose, initialize_config_dir
from hydra.core.hydra_config import HydraConfig
from lightning import Trainer
from omegaconf import open_dict

import callbacks.vllm_rollout as rollout
from asym_lightning.commands.train import Run
from asym_lightning.runtime import config_dir, setup

DIAGNOSTICS = ("dynamics", "ledger", "completions")


def main() -> None:
    setup()
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--blocks", type=int, default=12, help="of iterations, in turn with and without diagnostics"
    )
    parser.add_argument("--block", type=int, default=20, help="iterations in a block")
    parser.add_argument("overrides", nargs="*", help="of train.py")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        run = made(folder, [f"trainer.max_epochs={given.blocks * given.block}", *given.overrides])
        measured: dict[str, list[float]] = {
            "clock": [],
            "processor": [],
            "groups": [],
            "scoring": [],
        }
        rollout.measure_groups = timed(rollout.measure_groups, measured["groups"])
        on = [i // given.block % 2 == 0 for i in range(given.blocks * given.block)]
        for name in DIAGNOSTICS:
            for hook in ("on_train_batch_end", "on_train_epoch_end"):
                setattr(run.callbacks[name], hook, gated(getattr(run.callbacks[name], hook), on))
        run.policy._plan = reading(run.policy._plan, on, run.policy)  # type: ignore[method-assign]
        run.policy.score = without_gradient(run.policy.score, measured["scoring"])  # type: ignore[method-assign]
        watch(run.record, measured)
        run.fit()
    inner = range(given.block, len(on))  # the first block warms up
    groups = statistics.mean(measured["groups"][i] for i in inner)
    print(f"measure_groups: {groups * 1e3:.2f} ms an iteration")
    iterations = statistics.mean(
        value for value, state in zip(measured["processor"], on, strict=True) if state
    )
    scoring = sum(measured["scoring"]) / sum(on)
    print(
        f"scoring: {scoring * 1e3:.2f} ms of processor time an iteration, "
        f"{100 * scoring / iterations:.1f}% of it"
    )
    for what in ("clock", "processor"):
        for name, average in (("mean", statistics.mean), ("median", statistics.median)):
            with_all, bare = (
                average(measured[what][i] for i in inner if on[i] is state)
                for state in (True, False)
            )
            bare -= groups
            print(
                f"{what}, {name}: with {with_all * 1e3:.1f} ms, without {bare * 1e3:.1f} ms: "
                f"{100 * (with_all / bare - 1):+.1f}%"
            )


def watch(record: Any, measured: dict[str, list[float]]) -> None:
    """Time every iteration: the recorder sees its start first and its metrics last."""
    start, end = record.on_train_epoch_start, record.on_train_epoch_end
    began: list[float] = []

    def on_start(*given: Any) -> None:
        began[:] = [time.perf_counter(), time.process_time()]
        start(*given)

    def on_end(*given: Any) -> None:
        end(*given)
        measured["clock"].append(time.perf_counter() - began[0])
        measured["processor"].append(time.process_time() - began[1])

    record.on_train_epoch_start, record.on_train_epoch_end = on_start, on_end


def made(folder: str, overrides: list[str]) -> Run:
    """A run as train.py makes it."""
    with initialize_config_dir(str(config_dir()), version_base="1.3"):
        config = compose(
            "train",
            [f"hydra.run.dir={folder}", "callbacks.evaluation=null", *overrides],
            return_hydra_config=True,
        )
    with open_dict(config):
        config.hydra.runtime.output_dir = folder
        HydraConfig.instance().set_config(config.copy())
        del config["hydra"]
    return Run(config, Path(folder))


def gated(hook: Callable[..., None], on: list[bool]) -> Callable[..., None]:
    def call(trainer: Trainer, *rest: Any) -> None:
        if on[trainer.current_epoch]:
            hook(trainer, *rest)

    return call


def without_gradient(score: Callable[..., Any], seconds: list[float]) -> Callable[..., Any]:
    """Note the processor time of passes without a gradient."""

    def call(*given: Any, **named: Any) -> Any:
        start = time.process_time()
        scores = score(*given, **named)
        if not torch.is_grad_enabled():
            seconds.append(time.process_time() - start)
        return scores

    return call


def reading(plan: Callable[..., Any], on: list[bool], policy: Any) -> Callable[..., Any]:
    """Rollouts without a learning signal are scored for diagnostics that are on, and only then."""

    def call(*given: Any) -> Any:
        policy.diagnostics_read = on[policy.current_epoch]
        return plan(*given)

    return call


def timed(work: Callable[..., None], seconds: list[float]) -> Callable[..., None]:
    def call(*given: Any) -> None:
        start = time.perf_counter()
        work(*given)
        seconds.append(time.perf_counter() - start)

    return call


if __name__ == "__main__":
    main()
