"""One training run, from config to summary."""

import os
import sys
import time
from functools import partial
from math import inf
from pathlib import Path
from typing import Any

import torch
from hydra.types import RunMode
from hydra.utils import instantiate
from lightning import Callback, Trainer
from lightning.fabric.utilities.seed import seed_everything
from lightning.pytorch.callbacks import Checkpoint
from lightning.pytorch.loggers import TensorBoardLogger
from lightning.pytorch.utilities import rank_zero_only
from omegaconf import DictConfig, OmegaConf
from rich.console import Console
from rich.table import Table

from asym_lightning.algorithms import Algorithm
from asym_lightning.commands.quiet import quiet
from asym_lightning.config.engines import build_engine
from asym_lightning.config.loading import build, context_length, data_settings, load_tokenizer, prepare_data, settings_of, stop_ids
from asym_lightning.learner.adapters import LoRASettings, add_adapters
from asym_lightning.learner.datamodule import RolloutDataModule
from asym_lightning.learner.embedded import EmbeddedSettings, embedded_policy
from asym_lightning.learner.optimizer import OptimizerSettings
from asym_lightning.learner.policy import PolicyModule
from asym_lightning.metrics.throughput import PHASES
from asym_lightning.rollout.base import Sampling
from asym_lightning.runtime.memory import keep_freed_memory
from asym_lightning.runtime.run_folder import flat, git_revision, note_failure, objective, read_summary, versions, write_summary
from asym_lightning.runtime.watch.launcher import watch_start


def train(config: DictConfig) -> float:
    """Run a training config; returns its objective. A failure is noted in summary.json.

    Returns:
        What ``objective`` names: the mean reward of the last ten iterations, or a number of the final evaluation.
    """
    from hydra.core.hydra_config import HydraConfig

    quiet()
    torch.set_float32_matmul_precision("highest")
    keep_freed_memory()
    folder = Path(HydraConfig.get().runtime.output_dir)
    rank = getattr(rank_zero_only, "rank", 0)
    if rank == 0:
        (folder / "summary.json").unlink(missing_ok=True)  # of an earlier start
    try:
        return Run(config, folder).fit()
    except Exception as error:
        if rank == 0 or read_summary(folder) is None:  # the rank that fails first may be another
            note_failure(folder, config, f"{type(error).__name__}: {error}")
        raise


def gap_limit(config: DictConfig) -> float:
    """How far engine and trainer may be apart under the same weights (nats)."""
    exact = str(config.trainer.precision).startswith("32")
    given = config.policy.logprob_gap_limit
    return float(given) if given is not None else 1e-3 if exact else 1.0


class Run:
    """Everything of one run: policy, data, callbacks, trainer, summary.

    Args:
        config: the composed training config.
        folder: the run directory.
    """

    def __init__(self, config: DictConfig, folder: Path):
        self.config, self.folder = config, folder
        self.started = time.time()
        seed_everything(config.seed, verbose=False)
        tokenizer = load_tokenizer(config)
        prepared = prepare_data(config, tokenizer, context_length(config))
        task, self.sets, self.longest = prepared.task, prepared.sets, prepared.longest
        if int(os.environ.get("LOCAL_RANK", 0)) == 0:
            print(*task.notes, sep="\n", end="\n" if task.notes else "", flush=True)
        algorithm = build(config, "algo")
        self.path = str(config.policy.path or embedded_policy(EmbeddedSettings()))
        self.policy = self._policy(algorithm)
        self.data = RolloutDataModule(
            task,
            tokenizer,
            config.rollout.prompts_per_iteration,
            config.policy.prompts_per_mini_batch,
            config.policy.tokens_per_micro_batch,
            config.seed,
            algorithm.rules,
            config.rollout.max_tokens,
            config.policy.share_prompts and self.policy.packed,
            data_settings(config).difficulty,
        )
        self.callbacks = self._callbacks(tokenizer)
        loggers = [instantiate(c) for c in (config.logger or {}).values()]
        self.trainer: Trainer = build(
            config,
            "trainer",
            callbacks=list(self.callbacks.values()),
            logger=loggers,
            enable_progress_bar=False,
            enable_model_summary=False,
            enable_checkpointing=any(isinstance(c, Checkpoint) for c in self.callbacks.values()),  # else Lightning adds one of its own
            log_every_n_steps=1,
            use_distributed_sampler=False,
            default_root_dir=str(folder),
        )
        self.loggers = loggers
        watch_start(self.trainer, self.note)

    def _policy(self, algorithm: Algorithm) -> PolicyModule:
        from transformers import AutoModelForCausalLM

        p = self.config.policy
        model = AutoModelForCausalLM.from_pretrained(
            self.path, dtype=torch.float32, trust_remote_code=p.trust_remote_code, attn_implementation="sdpa"
        )
        if p.lora is not None:
            add_adapters(model, settings_of(LoRASettings, p.lora, "policy.lora"))
        limit = inf if self.config.rollout.staleness else gap_limit(self.config)  # older weights: the probe is compared in their place
        settings = settings_of(OptimizerSettings, p.optimizer, "policy.optimizer")
        temperature, seed = self.config.rollout.temperature, self.config.seed
        options = p.gradient_checkpointing, seed, p.compile, p.old_logprobs
        return PolicyModule(model, algorithm, settings, temperature, limit, *options)

    def _callbacks(self, tokenizer: Any) -> dict[str, Callback]:
        r = self.config.rollout
        sampling = Sampling(r.group_size, r.max_tokens, r.temperature, stop_ids(self.config, tokenizer))
        engine = partial(build_engine, r.engine, self.path, self.config, self.longest + r.max_tokens)
        given: dict[str, dict[str, Any]] = {
            "rollout": {
                "engine": engine,
                "sampling": sampling,
                "verifier": self.data.task.verifier,
                "seed": self.config.seed,
                "staleness": r.staleness,
                "probe_limit": gap_limit(self.config),
            },
            "evaluation": {"sets": lambda: self.sets},
            "watchdog": {"note": self.note},
            "board": {"hyperparameters": self._hyperparameters()},
        }
        made = {name: c for name, c in self.config.callbacks.items() if c is not None}
        return {name: instantiate(c, **given.get(name, {}), _convert_="object") for name, c in made.items()}

    def _hyperparameters(self) -> dict[str, Any]:
        """What sets a run apart, by dotted key: machinery such as loggers and class paths left out."""
        tree: Any = OmegaConf.to_container(self.config, resolve=True)
        parts = {key: tree[key] for key in ("algo", "policy", "task", "rollout", "trainer", "seed")}
        return {key: value for key, value in flat(parts).items() if not key.rpartition(".")[2].startswith("_")}

    def fit(self) -> float:
        """Train, write the summary whatever happens, show what was learned."""
        if self.trainer.is_global_zero:
            OmegaConf.save(self.config, self.folder / "config.yaml", resolve=True)
            for logger in self.loggers:
                if not isinstance(logger, TensorBoardLogger):  # there, callbacks/board.py does at the end
                    logger.log_hyperparams(self._hyperparameters())
        status = "failed"
        try:
            self.trainer.fit(self.policy, self.data, ckpt_path=self.config.ckpt_path, weights_only=True)
            guard: Any = self.callbacks.get("guards")
            status = "interrupted" if guard and guard.interrupted else "done"
        except (KeyboardInterrupt, SystemExit) as stop:  # Lightning turns an interrupt into exit(1)
            status = "interrupted"
            raise KeyboardInterrupt from stop
        finally:
            if self.trainer.is_global_zero:
                summary = self.summary(status)
                write_summary(self.folder, summary)
                finish_wandb(status)
                if status != "failed":
                    show(summary, self.folder)
        if status == "interrupted":
            raise KeyboardInterrupt
        return objective(summary, self.config) if self.trainer.is_global_zero else 0.0

    def note(self, error: str) -> None:
        """Write down what the run ended of, where this process ends before :meth:`fit` does."""
        from hydra.core.hydra_config import HydraConfig

        write_summary(self.folder, self.summary("failed") | {"error": error})
        if HydraConfig.get().mode == RunMode.MULTIRUN:
            print("the sweep ends with it, since it is in the same process; the same command goes on with what is missing", file=sys.stderr)

    def summary(self, status: str) -> dict[str, Any]:
        """The contents of summary.json."""
        history: list[dict[str, float]] = self.callbacks["record"].history  # type: ignore[attr-defined]
        evaluation: Any = self.callbacks.get("evaluation")

        def ends(name: str) -> dict[str, float | None]:
            values = [row[name] for row in history if name in row]
            mean = lambda part: sum(part) / len(part) if part else None  # noqa: E731
            return {"first": mean(values[:10]), "last": mean(values[-10:])}

        phases = [*(p for p in PHASES if p != "sleep" or any("time/sleep" in row for row in history)), "iteration"]
        return {
            "status": status,
            "algorithm": self.config.algo.name,
            "seed": self.config.seed,
            "iterations": len(history),
            "wall_seconds": time.time() - self.started,
            "seconds_by_phase": {phase: sum(row.get(f"time/{phase}", 0.0) for row in history) for phase in phases},
            "generated_tokens": round(sum(row["throughput/tokens_per_s"] * row["time/iteration"] for row in history)),
            "reward": ends("reward/mean"),
            "entropy": ends("entropy/policy"),
            "solved_none": ends("solved/none"),
            "solved_mixed": ends("solved/mixed"),
            "logprob_gap_max": max((row.get("engine/logprob_gap_max", 0.0) for row in history), default=None),
            "evaluation": {"before": evaluation.before, "after": evaluation.after} if evaluation else {},
            "git_revision": git_revision(),
            "versions": versions(),
            "config": OmegaConf.to_container(self.config, resolve=True),
        }


def finish_wandb(status: str) -> None:
    """Close the run of Weights & Biases if there is one; the next run of a sweep would go on writing to it."""
    wandb = sys.modules.get("wandb")
    if wandb is not None and wandb.run is not None:
        wandb.finish(exit_code=0 if status == "done" else 1)


def show(summary: dict[str, Any], folder: Path) -> None:
    """Print what was learned, how long each phase took and where to look further."""

    def number(value: float | None) -> str:
        return "-" if value is None else f"{value:.3f}"

    table = Table(title=f"{summary['algorithm']}, seed {summary['seed']}: {summary['iterations']} iterations, {summary['status']}")
    for column in ("", "before", "after"):
        table.add_column(column, justify="left" if not column else "right")
    for label, key in (
        ("training reward (mean of 10)", "reward"),
        ("policy entropy (nats)", "entropy"),
        ("prompts with none solved", "solved_none"),
    ):
        table.add_row(label, number(summary[key]["first"]), number(summary[key]["last"]))
    before, after = (summary["evaluation"].get(k, {}) for k in ("before", "after"))
    for name in before or after:
        _, of, metric = name.split("/", 2)
        if "/" not in metric:  # lengths and kinds are in the file
            table.add_row(f"{'held-out' if of == 'heldout' else of} {metric}", number(before.get(name)), number(after.get(name)))
    console = Console()
    console.print(table)
    seconds = summary["seconds_by_phase"]
    console.print(
        "seconds: " + "  ".join(f"{k} {v:.1f}" for k, v in seconds.items()) + f"  all {summary['wall_seconds']:.1f}", soft_wrap=True
    )
    if summary["iterations"] and not summary["solved_mixed"]["last"]:
        console.print("no group had a signal in the last iterations: every prompt's rollouts all got the same reward", soft_wrap=True)
    logs = Path("logs").resolve()
    board = logs if logs in folder.resolve().parents else folder
    policy = {"policy": folder / "policy"} if (folder / "policy").is_dir() else {}  # a run that was stopped at once has none
    places = {"run directory": folder, **policy, "TensorBoard": f"{sys.executable} -m tensorboard.main --logdir {board}"}
    for name, place in places.items():
        console.print(f"{name + ':':15}{place}", highlight=False, soft_wrap=True)
