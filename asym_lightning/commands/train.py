"""A training run, from config to summary."""

import logging
import time
from functools import partial
from math import inf
from pathlib import Path
from typing import Any

import torch
from hydra.types import RunMode
from hydra.utils import instantiate
from lightning.fabric.utilities.seed import seed_everything
from lightning.pytorch.loggers import TensorBoardLogger
from lightning.pytorch.utilities import rank_zero_only
from omegaconf import DictConfig, OmegaConf

from asym_lightning.algorithms import Algorithm
from asym_lightning.commands.quiet import quiet
from asym_lightning.commands.summary import finish_wandb, show, summarize
from asym_lightning.config.callback_checks import mandatory_settings
from asym_lightning.config.engines import build_engine
from asym_lightning.config.loading import build, data_settings, prepare_data, settings_of
from asym_lightning.config.model import context_length, load_tokenizer, policy_folder, stop_ids
from asym_lightning.config.parts import build_trainer, handed_on
from asym_lightning.learner.adapters import LoRASettings, add_adapters
from asym_lightning.learner.datamodule import RolloutDataModule
from asym_lightning.learner.optimizer import OptimizerSettings
from asym_lightning.learner.policy import PolicyModule
from asym_lightning.rollout.base import Sampling
from asym_lightning.runtime.memory import keep_freed_memory
from asym_lightning.runtime.pretrained import load_model
from asym_lightning.runtime.run_folder import (
    flat,
    note_failure,
    objective,
    read_summary,
    write_summary,
)
from asym_lightning.runtime.watch.launcher import watch_start
from callbacks.order import in_order
from callbacks.parts import RunParts, TakesParts
from callbacks.record import Recorder
from callbacks.vllm_rollout import VLLMRollout

log = logging.getLogger(__name__)


def train(config: DictConfig) -> float:
    """Run a training config. A failure is recorded in summary.json.

    Returns:
        The objective: the mean reward of the last ten iterations, or a metric of the final
        evaluation.
    """
    from hydra.core.hydra_config import HydraConfig

    quiet()
    torch.set_float32_matmul_precision("highest")
    keep_freed_memory()
    folder = Path(HydraConfig.get().runtime.output_dir)
    rank = getattr(rank_zero_only, "rank", 0)
    if rank == 0:
        # It may be of an earlier start.
        (folder / "summary.json").unlink(missing_ok=True)
    try:
        return Run(config, folder).fit()
    except Exception as error:
        # The rank that fails first may be any rank.
        if rank == 0 or read_summary(folder) is None:
            note_failure(folder, config, f"{type(error).__name__}: {error}")
        raise


class Run:
    """A run: its policy, data, callbacks, trainer and summary.

    The run builds the callbacks that it cannot do without, the rollout and the recorder; all others
    come from the config, which may leave them out. ``callbacks.order`` has the order in which they
    act. Parts that the checks of the config have built are taken from them.

    One iteration makes these calls, in this order; indented ones are made by the one above. From
    the plan to the loss they are repeated for each mini-batch.

    1. ``callbacks.vllm_rollout.VLLMRollout.on_train_epoch_start``
       1. ``asym_lightning.rollout.collect.RolloutCollector.collect``: engine, then verifier
          1. ``asym_lightning.rollout.groups.sample``
          2. ``asym_lightning.rollout.groups.verify``
       2. ``asym_lightning.metrics.rollouts.measure_groups``
       3. ``asym_lightning.learner.datamodule.RolloutDataModule.load_rollouts``: packed mini-batches
    2. ``asym_lightning.learner.policy.PolicyModule.on_train_epoch_start``
       1. ``asym_lightning.learner.priors.score_priors``: old log-probs, those of the reference
    3. ``asym_lightning.learner.policy.PolicyModule.training_step``: one optimizer step
       1. ``asym_lightning.algorithms.Algorithm.advantages``
       2. ``asym_lightning.learner.backward_plan.plan_backward``: what is scored, what is learned
       3. ``asym_lightning.learner.policy.PolicyModule.score``: each micro-batch
       4. ``asym_lightning.learner.policy_loss.micro_batch_loss``: modulations, policy loss
       5. ``asym_lightning.learner.strategies.StrategyAdapter.clip_and_step``
       6. ``asym_lightning.learner.policy_loss.step_record``: what callbacks read
    4. ``callbacks.record.Recorder.on_train_epoch_end``: metrics of all ranks, rollouts to disk

    Args:
        config: the composed training config.
        folder: the run directory.
    """

    def __init__(self, config: DictConfig, folder: Path):
        self.config, self.folder = config, folder
        self.started = time.time()
        seed_everything(config.seed, verbose=False)
        tokenizer = handed_on.take("tokenizer", config, lambda: load_tokenizer(config))
        prepared = handed_on.take(
            "data", config, lambda: prepare_data(config, tokenizer, context_length(config))
        )
        self.task, self.sets, self.longest = prepared.task, prepared.sets, prepared.longest
        for note in prepared.notes:
            log.info(note)
        algorithm = handed_on.take("algorithm", config, lambda: build(config, "algo"))
        self.path = policy_folder(config)
        self.policy = self._policy(algorithm)
        self.data = RolloutDataModule(
            prepared.train,
            tokenizer,
            config.rollout.prompts_per_iteration,
            prompts_per_mini_batch=config.policy.prompts_per_mini_batch,
            tokens_per_micro_batch=config.policy.tokens_per_micro_batch,
            seed=config.seed,
            rules=algorithm.rules,
            max_tokens=config.rollout.max_tokens,
            share_prompts=config.policy.share_prompts and self.policy.packed,
            padded=not self.policy.packed,
            difficulty=data_settings(config).difficulty,
        )
        self.rollout = self._rollout(tokenizer)
        self.record = Recorder(mandatory_settings(config, "record"), self.rollout)
        self.trainer, self.callbacks = handed_on.take(
            "trainer", config, lambda: build_trainer(config)
        )
        self._connect_callbacks()
        self.loggers = [instantiate(c) for c in (config.logger or {}).values()]
        self.trainer.loggers = self.loggers
        watch_start(self.trainer, self.record_failure)

    def _policy(self, algorithm: Algorithm) -> PolicyModule:
        p = self.config.policy
        model = load_model(self.path, torch.float32, trust_remote_code=p.trust_remote_code)
        if p.lora is not None:
            add_adapters(model, settings_of(LoRASettings, p.lora, "policy.lora"))
        # With staleness, rollouts come from older weights: the probe's gap is limited instead.
        limit = inf if self.config.rollout.staleness else p.logprob_gap_limit
        return PolicyModule(
            model,
            algorithm,
            settings_of(OptimizerSettings, p.optimizer, "policy.optimizer"),
            temperature=self.config.rollout.temperature,
            logprob_gap_limit=limit,
            gradient_checkpointing=p.gradient_checkpointing,
            seed=self.config.seed,
            compile_layers=p.compile,
            old_logprobs=p.old_logprobs,
        )

    def _rollout(self, tokenizer: Any) -> VLLMRollout:
        r = self.config.rollout
        sampling = Sampling(
            n=r.group_size,
            max_tokens=r.max_tokens,
            temperature=r.temperature,
            stop_ids=stop_ids(self.config, tokenizer),
        )
        max_model_len = self.longest + r.max_tokens
        # The rollout callback adds the argument `distributed`.
        engine = partial(build_engine, r.engine, self.path, self.config, max_model_len)
        return VLLMRollout(
            engine,
            sampling,
            self.task.verifier,
            seed=self.config.seed,
            max_verify_errors=mandatory_settings(self.config, "rollout").max_verify_errors,
            staleness=r.staleness,
        )

    def _connect_callbacks(self) -> None:
        """Give the optional callbacks their parts of the run, and put all callbacks in order."""
        parts = RunParts(
            rollout=self.rollout,
            record=self.record,
            sets=self.sets,
            hyperparameters=self._hyperparameters(),
            note_failure=self.record_failure,
        )
        for callback in self.callbacks.values():
            if isinstance(callback, TakesParts):
                callback.take_parts(parts)
        trainer: Any = self.trainer
        optional = list(self.callbacks.values())
        # Lightning adds one for trainer.max_time.
        added = [callback for callback in trainer.callbacks if callback not in optional]
        named = {**self.callbacks, "rollout": self.rollout, "record": self.record}
        trainer.callbacks = in_order(named, added)

    def _hyperparameters(self) -> dict[str, Any]:
        """The settings that affect results, by dotted key, without loggers and class paths."""
        tree: Any = OmegaConf.to_container(self.config, resolve=True)
        parts = {key: tree[key] for key in ("algo", "policy", "task", "rollout", "trainer", "seed")}
        return {
            key: value
            for key, value in flat(parts).items()
            if not key.rpartition(".")[2].startswith("_")
        }

    def fit(self) -> float:
        """Train, write the summary even after a failure, and show the results.

        Returns:
            The objective; 0 in ranks other than 0.
        """
        if self.trainer.is_global_zero:
            OmegaConf.save(self.config, self.folder / "config.yaml", resolve=True)
            for logger in self.loggers:
                # callbacks/board.py logs them to TensorBoard at the end.
                if not isinstance(logger, TensorBoardLogger):
                    logger.log_hyperparams(self._hyperparameters())
        status = "failed"
        try:
            self.trainer.fit(
                self.policy, self.data, ckpt_path=self.config.ckpt_path, weights_only=True
            )
            callbacks: Any = self.trainer.callbacks  # type: ignore[attr-defined]
            stopped = any(getattr(callback, "interrupted", False) for callback in callbacks)
            status = "interrupted" if stopped else "done"
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

    def record_failure(self, error: str) -> None:
        """Record why the run ended.

        The watch over the ranks calls it before it ends this process, in which :meth:`fit` then
        cannot write the summary.
        """
        from hydra.core.hydra_config import HydraConfig

        write_summary(self.folder, self.summary("failed") | {"error": error})
        if HydraConfig.get().mode == RunMode.MULTIRUN:
            log.warning(
                "this run is in the process of its sweep, so the sweep ends too; "
                "the same command starts the runs that are missing"
            )

    def summary(self, status: str) -> dict[str, Any]:
        """Return the contents of summary.json."""
        return summarize(
            self.config,
            self.record.history,
            self.record.evaluation,
            status=status,
            wall_seconds=time.time() - self.started,
        )
