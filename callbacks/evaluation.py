"""Held-out problems and benchmarks before, during and after training, with the rollout engine."""

import logging
from collections.abc import Mapping
from dataclasses import replace
from typing import Annotated

import torch
from lightning import Callback, LightningModule, Trainer
from pydantic import Field

from asym_lightning.checks import Count, WholeNumber, validated
from asym_lightning.learner.policy import PolicyModule
from asym_lightning.metrics.evaluation import EvaluationMetric
from asym_lightning.rollout.base import Sampling
from asym_lightning.rollout.protocol import answer, samples_of
from asym_lightning.runtime.watch.phases import mark
from asym_lightning.tasks.base import PromptSet
from callbacks.parts import RunParts

log = logging.getLogger(__name__)

Samples = Annotated[
    Count | Mapping[str, Count],
    Field(description="a whole number >= 1, or one for each set by its name"),
]


@validated
class HeldoutEvaluation(Callback):
    """Evaluates every set after the last iteration and, if asked for, before the first and between.

    The sets are the task's held-out problems (``heldout``) and the benchmarks. The metrics are
    logged, and the recorder keeps those from before and after training. They stay in the trainer's
    ``callback_metrics`` as long as the weights that they were measured with, so that a checkpoint
    can be picked by one of them.

    Args:
        problems: number of problems of each set, from its first; 0 turns the evaluation off.
        samples: completions per problem, for all sets or for each by its name.
        temperature: of the samples; 0: greedy, with one sample.
        seed: decides every sample, together with a problem's number.
        every: iterations between evaluations; 0: none in between.
        before: evaluate before the first iteration too.
        greedy: also sample one greedy answer per problem.
    """

    def __init__(
        self,
        problems: WholeNumber = 256,
        samples: Samples = 8,
        temperature: float = 1.0,
        seed: WholeNumber = 0,
        every: WholeNumber = 0,
        before: bool = True,
        greedy: bool = False,
    ):
        self.problems, self.seed = problems, seed
        self.samples, self.temperature = samples, temperature
        self.every, self.greedy, self._first = every, greedy, before
        self._evaluated = -1  # iterations done at the last evaluation

    def take_parts(self, parts: RunParts) -> None:
        self._rollout, self._sets = parts.rollout, parts.sets
        self._results = parts.record.evaluation
        self._results |= {"before": {}, "after": {}}

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        if not trainer.is_global_zero or not self.problems:
            return
        for prompt_set in self._sets:
            total = len(prompt_set.prompts)
            if 0 < self.problems < total:
                log.info(
                    f"{prompt_set.name}: evaluated on the first {self.problems} of {total} "
                    "problems (callbacks.evaluation.problems)"
                )

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if self._first:
            self._results["before"] = self._evaluate(trainer, pl_module, trainer.current_epoch)

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        # These metrics are of earlier weights: no checkpoint may be picked by them.
        for name in [name for name in trainer.callback_metrics if name.startswith("eval/")]:
            del trainer.callback_metrics[name]

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        done = trainer.current_epoch + 1
        if self.every and done % self.every == 0:
            self._results["after"] = self._evaluate(trainer, pl_module, done)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if self._evaluated != trainer.current_epoch:
            self._results["after"] = self._evaluate(trainer, pl_module, trainer.current_epoch)

    def _evaluate(self, trainer: Trainer, policy: LightningModule, done: int) -> dict[str, float]:
        """The metrics of all sets after ``done`` iterations."""
        assert isinstance(policy, PolicyModule)
        self._evaluated = done
        if not self.problems or not self._sets:
            return {}
        mark("evaluation")
        self._rollout.sync(policy, done)
        result: dict[str, float] = {}
        for prompt_set in self._sets:
            prefix = f"eval/{prompt_set.name}"
            samples = samples_of(self.samples, prompt_set.name)
            sampling = self._sampling(samples, self.temperature)
            metrics = self._metrics(trainer, prompt_set, sampling)
            result |= {f"{prefix}/{name}": value for name, value in metrics.items()}
            if self.greedy:
                metrics = self._metrics(trainer, prompt_set, self._sampling(1, 0.0))
                result[f"eval/{prompt_set.name}/greedy"] = metrics["pass@1"]
        self._rollout.sleep()
        trainer.callback_metrics.update(
            {name: torch.tensor(value) for name, value in result.items()}
        )
        for logger in trainer.loggers:
            logger.log_metrics(result, step=done)
        return result

    def _sampling(self, samples: int, temperature: float) -> Sampling:
        return replace(self._rollout.sampling, n=samples, temperature=temperature)

    def _metrics(
        self, trainer: Trainer, prompt_set: PromptSet, sampling: Sampling
    ) -> dict[str, float]:
        """The metrics of a set over all ranks; each rank answers its share of the problems."""
        collector = self._rollout.collector
        assert collector is not None
        count = min(self.problems, len(prompt_set.prompts))
        own_numbers = range(trainer.global_rank, count, trainer.world_size)
        heldout = prompt_set.name == "heldout"
        verifier = collector.verifier if heldout else prompt_set.task.verifier()
        metric = EvaluationMetric(sampling.n).to(trainer.strategy.root_device)
        groups = answer(
            collector.engine,
            collector.tokenizer,
            prompt_set,
            numbers=own_numbers,
            verifier=verifier,
            sampling=sampling,
            seed=self.seed,
        )
        for group in groups:
            metric.update(group)
        if verifier is not collector.verifier:
            verifier.close()
        return metric.compute()
