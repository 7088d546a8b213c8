"""Grouped rollouts at the start of every iteration: sync, generate, verify, hand over."""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import torch
from lightning import Callback, LightningModule, Trainer

from asym_lightning.datamodule import RolloutDataModule
from asym_lightning.metrics.meter import Meter
from asym_lightning.metrics.rollouts import measure_difficulty, measure_dynamic_sampling, measure_groups, measure_resampled
from asym_lightning.ops.ranks import over_ranks
from asym_lightning.policy import PolicyModule
from asym_lightning.rollout import groups
from asym_lightning.rollout.base import RolloutEngine, Sampling, sampling_seed
from asym_lightning.types import Completion, Prompt, RolloutGroup
from asym_lightning.verify.base import Verifier
from asym_lightning.verify.failures import Failures


class VLLMRollout(Callback):
    """Makes G verified completions per prompt with the rollout engine, one engine per rank.

    Args:
        engine: builds the engine on this rank; called once, after the processes have found each other.
        sampling: group size, temperature, token limit and stop tokens.
        verifier: builds what scores the completions.
        seed: with the iteration and a prompt's number it decides every sample.
        max_verify_errors: share of an iteration's answers whose verification may fail before the run stops.
    """

    def __init__(
        self,
        engine: Callable[[bool], RolloutEngine],
        sampling: Sampling,
        verifier: Callable[[], Verifier],
        seed: int,
        max_verify_errors: float = 0.05,
    ):
        self.failures = Failures(max_verify_errors)
        self._build, self._build_verifier = engine, verifier
        self.sampling, self.seed = sampling, seed
        self.engine: RolloutEngine | None = None
        self.verifier: Verifier | None = None
        self.groups: list[RolloutGroup] = []

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        if self.engine is None:
            self.engine = self._build(trainer.world_size > 1)
            self.verifier = self._build_verifier()

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        assert isinstance(pl_module, PolicyModule)
        data: RolloutDataModule = trainer.datamodule  # type: ignore[attr-defined]
        rules = pl_module.algorithm.rules
        self._seconds = {"sync": 0.0, "generate": 0.0, "verify": 0.0}
        self._tokens = 0
        numbered = data.prompts(trainer.current_epoch, trainer.global_rank, trainer.world_size)
        with self._timed("sync"):
            self.sync(pl_module)
        drawn = self._draw(numbered, self.sampling, "train")
        measure_groups(drawn, pl_module.meter)
        data.observe(drawn)
        self.groups = self._refill(drawn, rules.dynamic_sampling, trainer, pl_module.meter) if rules.dynamic_sampling else drawn
        resampled: list[list[RolloutGroup]] = []
        if rules.resample is not None:
            parts = data.first_of_each_mini_batch(numbered, rules.resample.share)
            sampling = replace(self.sampling, temperature=rules.resample.temperature)
            drawn = self._draw([one for part in parts for one in part], sampling, "resample")
            measure_resampled(drawn, pl_module.meter)
            resampled = [[drawn.pop(0) for _ in part] for part in parts]
        if data.order.difficulty.active:
            measure_difficulty(data.order, data.prompts_per_iteration, pl_module.meter)
        self.failures.settle()
        for name, seconds in self._seconds.items():
            pl_module.meter.mean(f"time/{name}", seconds, 1)
        pl_module.meter.mean("throughput/generated_tokens", self._tokens * trainer.world_size, 1)
        data.put(self.groups, resampled)

    def _draw(self, numbered: Sequence[tuple[int, Prompt]], sampling: Sampling, purpose: str) -> list[RolloutGroup]:
        """Generate and verify a group for each numbered prompt."""
        prompts = [prompt for _, prompt in numbered]
        if not prompts:
            return []
        with self._timed("generate"):
            drawn = self.sample(prompts, sampling, [sampling_seed(self.seed, purpose, number) for number, _ in numbered])
        self._tokens += sum(len(c.token_ids) for completions in drawn for c in completions)
        with self._timed("verify"):
            return self.verify(prompts, drawn)

    def _refill(self, groups: list[RolloutGroup], most_batches: int, trainer: Trainer, meter: Meter) -> list[RolloutGroup]:
        """DAPO's dynamic sampling: as many groups as given, all with a signal as long as ``most_batches`` generation batches suffice.

        Each rank keeps its own groups; all generate as much as the rank that misses most."""
        want, batches = len(groups), 1
        drawn = list(groups)
        kept = [group for group in drawn if len(set(group.rewards)) > 1]
        while batches < most_batches:
            missing = want - len(kept)
            count = min(want, -(-missing * len(drawn) // max(1, len(kept)))) if missing > 0 else 0
            count = int(over_ranks(torch.tensor(count), "max"))
            if not count:
                break
            data: RolloutDataModule = trainer.datamodule  # type: ignore[attr-defined]
            more = self._draw(data.spare_prompts(count, trainer.global_rank, trainer.world_size), self.sampling, "refill")
            data.observe(more)
            kept += [group for group in more if len(set(group.rewards)) > 1]
            drawn += more
            batches += 1
        measure_dynamic_sampling(drawn, want, batches, meter)
        return (kept + [group for group in drawn if len(set(group.rewards)) == 1])[:want]

    @contextmanager
    def _timed(self, name: str) -> Iterator[None]:
        """Add the seconds of a block to those of a phase."""
        start = time.perf_counter()
        yield
        self._seconds[name] += time.perf_counter() - start

    def sync(self, policy: PolicyModule) -> None:
        """Give the engine the policy's weights as they are now."""
        assert self.engine is not None
        self.engine.sync(policy.weights())

    def sample(self, prompts: Sequence[Prompt], sampling: Sampling, seeds: Sequence[int]) -> list[list[Completion]]:
        """Generate and decode ``sampling.n`` completions for each prompt."""
        assert self.engine is not None
        return groups.sample(self.engine, self.tokenizer, prompts, sampling, seeds)

    def verify(self, prompts: Sequence[Prompt], drawn: Sequence[Sequence[Completion]]) -> list[RolloutGroup]:
        """Score every completion against its prompt's reference answer."""
        assert self.verifier is not None
        made = groups.verify(self.verifier, prompts, drawn)
        texts = [completion.text for group in made for completion in group.completions]
        answers = [group.prompt.problem.answer for group in made for _ in group.completions]
        self.failures.add(texts, answers, [verdict for group in made for verdict in group.verdicts])
        return made

    tokenizer: Any = None

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.tokenizer = trainer.datamodule.tokenizer  # type: ignore[attr-defined]

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        if self.engine is not None and self.verifier is not None:
            self.engine.close()
            self.verifier.close()
            self.engine = self.verifier = None
