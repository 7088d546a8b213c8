"""Held-out pass@k before, during and after training, through the same engine."""

import torch
from lightning import Callback, LightningModule, Trainer

from asym_lightning.metrics.passk import evaluation, powers_of_two
from asym_lightning.policy import PolicyModule
from asym_lightning.rollout.base import Sampling, sampling_seed
from callbacks.vllm_rollout import VLLMRollout


class HeldoutEvaluation(Callback):
    """Samples held-out problems before the first iteration, after the last and, if asked for, in between.

    Args:
        problems: how many of the task's held-out problems; 0 turns the evaluation off.
        samples: completions per problem.
        temperature: of the samples.
        every: iterations between evaluations; 0: none in between.
    """

    def __init__(self, problems: int = 256, samples: int = 8, temperature: float = 1.0, seed: int = 0, every: int = 0):
        self.problems, self.samples, self.temperature, self.seed, self.every = problems, samples, temperature, seed, every
        self.before: dict[str, float] = {}
        self.after: dict[str, float] = {}

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.before = self._evaluate(trainer, pl_module, trainer.current_epoch)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        done = trainer.current_epoch + 1
        if self.every and done % self.every == 0 and done != trainer.max_epochs:  # the last one is evaluated anyway
            self._evaluate(trainer, pl_module, done)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.after = self._evaluate(trainer, pl_module, trainer.current_epoch)

    def _evaluate(self, trainer: Trainer, policy: LightningModule, done: int) -> dict[str, float]:
        assert isinstance(policy, PolicyModule)
        data = trainer.datamodule  # type: ignore[attr-defined]
        total = min(self.problems, len(data.task.heldout))
        if not total:
            return {}
        rollout = next(c for c in trainer.callbacks if isinstance(c, VLLMRollout))  # type: ignore[attr-defined]
        mine = range(trainer.global_rank, total, trainer.world_size)
        prompts = [data.encode(data.task.heldout[i]) for i in mine]
        sampling = Sampling(self.samples, rollout.sampling.max_tokens, self.temperature, rollout.sampling.stop_ids)
        rollout.sync(policy)
        drawn = rollout.sample(prompts, sampling, [sampling_seed(self.seed, "eval", i) for i in mine])
        sums = evaluation(rollout.verify(prompts, drawn)) if prompts else {}
        curve = [f"pass@{k}" for k in powers_of_two(self.samples)]
        names = ["problems", f"avg@{self.samples}", *curve, f"maj@{self.samples}", "distinct_correct"]
        table = torch.tensor([sums.get(name, 0.0) for name in names], dtype=torch.float64, device=policy.device)
        count, *values = trainer.strategy.reduce(table, reduce_op="sum").tolist()
        result = {f"eval/heldout/{name}": value / count for name, value in zip(names[1:], values, strict=True)}
        for logger in trainer.loggers:
            logger.log_metrics(result, step=done)
        return result
