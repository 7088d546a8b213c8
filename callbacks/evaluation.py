"""Held-out problems and benchmarks before, during and after training, through the same engine."""

from collections.abc import Callable, Mapping, Sequence

import torch
from lightning import Callback, LightningModule, Trainer

from asym_lightning.checks import whole_number
from asym_lightning.learner.policy import PolicyModule
from asym_lightning.metrics.evaluation import EvaluationMetric
from asym_lightning.rollout.base import Sampling
from asym_lightning.rollout.protocol import answer, samples_of
from asym_lightning.runtime.watch.phases import mark
from asym_lightning.tasks.base import ProblemSet
from callbacks.vllm_rollout import VLLMRollout


class HeldoutEvaluation(Callback):
    """Samples every set after the last iteration and, if asked for, before the first and in between. Its numbers are logged and are among
    the trainer's ``callback_metrics`` for as long as the weights are theirs, so that a checkpoint can be picked by one of them.

    Args:
        sets: gives the task's held-out problems (``heldout``) and the benchmarks.
        problems: how many of each set, the first ones; 0 turns the evaluation off.
        samples: completions per problem, for all sets or for each by its name.
        temperature: of the samples; 0: greedy, with one sample.
        seed: with a problem's number it decides every sample.
        every: iterations between evaluations; 0: none in between.
        before: evaluate before the first iteration too.
        greedy: give one greedy answer per problem too.
    """

    def __init__(
        self,
        sets: Callable[[], Sequence[ProblemSet]] = tuple,
        problems: int = 256,
        samples: int | Mapping[str, int] = 8,
        temperature: float = 1.0,
        seed: int = 0,
        every: int = 0,
        before: bool = True,
        greedy: bool = False,
    ):
        for key, value in {"problems": problems, "every": every, "seed": seed}.items():
            whole_number(f"callbacks.evaluation.{key}", value, 0)
        self.sets, self.problems, self.samples, self.temperature = sets(), problems, samples, temperature
        self.seed, self.every, self.greedy, self._first = seed, every, greedy, before
        self.before: dict[str, float] = {}
        self.after: dict[str, float] = {}
        self._evaluated = -1  # iterations done at the last evaluation

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        for one in self.sets if trainer.is_global_zero and self.problems else ():
            if len(one.problems) > self.problems:
                first = f"the first {self.problems} of {len(one.problems)} problems"
                print(f"{one.name}: evaluated on {first} (callbacks.evaluation.problems)", flush=True)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if self._first:
            self.before = self._evaluate(trainer, pl_module, trainer.current_epoch)

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        for name in [name for name in trainer.callback_metrics if name.startswith("eval/")]:
            del trainer.callback_metrics[name]  # of other weights: no checkpoint is picked by them

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        done = trainer.current_epoch + 1
        if self.every and done % self.every == 0:
            self.after = self._evaluate(trainer, pl_module, done)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if self._evaluated != trainer.current_epoch:
            self.after = self._evaluate(trainer, pl_module, trainer.current_epoch)

    def _evaluate(self, trainer: Trainer, policy: LightningModule, done: int) -> dict[str, float]:
        assert isinstance(policy, PolicyModule)
        self._evaluated = done
        if not self.problems or not self.sets:
            return {}
        mark("evaluation")
        rollout = next(c for c in trainer.callbacks if isinstance(c, VLLMRollout))  # type: ignore[attr-defined]
        rollout.sync(policy, done)
        result: dict[str, float] = {}
        for one in self.sets:
            found = self._sampled(trainer, rollout, one, samples_of(self.samples, one.name), self.temperature)
            result |= {f"eval/{one.name}/{name}": value for name, value in found.items()}
            if self.greedy:
                result[f"eval/{one.name}/greedy"] = self._sampled(trainer, rollout, one, 1, 0.0)["pass@1"]
        rollout.sleep()
        trainer.callback_metrics.update({name: torch.tensor(value) for name, value in result.items()})
        for logger in trainer.loggers:
            logger.log_metrics(result, step=done)
        return result

    def _sampled(self, trainer: Trainer, rollout: VLLMRollout, one: ProblemSet, samples: int, temperature: float) -> dict[str, float]:
        """The metrics of a set over all ranks; each rank answers its share of the problems."""
        assert rollout.engine is not None and rollout.verifier is not None
        sampling = Sampling(samples, rollout.sampling.max_tokens, temperature, rollout.sampling.stop_ids)
        mine = range(trainer.global_rank, min(self.problems, len(one.problems)), trainer.world_size)
        verifier = rollout.verifier if one.name == "heldout" else one.task.verifier()
        metric = EvaluationMetric(samples).to(trainer.strategy.root_device)
        for group in answer(rollout.engine, rollout.tokenizer, one, mine, verifier, sampling, self.seed):
            metric.update(group)
        if verifier is not rollout.verifier:
            verifier.close()
        return metric.compute()
