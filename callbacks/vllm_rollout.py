"""Grouped rollouts at the start of every iteration: sync, generate, verify, hand over."""

import time
from collections.abc import Callable, Sequence
from typing import Any

from lightning import Callback, LightningModule, Trainer

from asym_lightning.datamodule import RolloutDataModule
from asym_lightning.metrics.rollouts import measure_groups
from asym_lightning.policy import PolicyModule
from asym_lightning.rollout.base import RolloutEngine, Sampling, sampling_seed
from asym_lightning.types import Completion, Prompt, RolloutGroup
from asym_lightning.verify.base import Verifier


class VLLMRollout(Callback):
    """Makes G verified completions per prompt with the rollout engine, one engine per rank.

    Args:
        engine: builds the engine on this rank; called once, after the processes have found each other.
        sampling: group size, temperature, token limit and stop tokens.
        verifier: builds what scores the completions.
        seed: with the iteration and a prompt's number it decides every sample.
    """

    def __init__(self, engine: Callable[[bool], RolloutEngine], sampling: Sampling, verifier: Callable[[], Verifier], seed: int):
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
        meter = pl_module.meter
        iteration = trainer.current_epoch
        numbered = data.prompts(iteration, trainer.global_rank, trainer.world_size)
        with _timed(meter, "time/sync"):
            self.sync(pl_module)
        with _timed(meter, "time/generate"):
            seeds = [sampling_seed(self.seed, "train", number) for number, _ in numbered]
            drawn = self.sample([prompt for _, prompt in numbered], self.sampling, seeds)
        tokens = sum(len(c.token_ids) for completions in drawn for c in completions)
        with _timed(meter, "time/verify"):
            self.groups = self.verify([prompt for _, prompt in numbered], drawn)
        meter.mean("throughput/generated_tokens", tokens * trainer.world_size, 1)
        measure_groups(self.groups, meter)
        data.put(self.groups)

    def sync(self, policy: PolicyModule) -> None:
        """Give the engine the policy's weights as they are now."""
        assert self.engine is not None
        self.engine.sync(policy.weights())

    def sample(self, prompts: Sequence[Prompt], sampling: Sampling, seeds: Sequence[int]) -> list[list[Completion]]:
        """Generate and decode ``sampling.n`` completions for each prompt."""
        assert self.engine is not None
        drawn = self.engine.generate([p.token_ids for p in prompts], sampling, seeds)
        texts = iter(self.tokenizer.batch_decode([s.token_ids for samples in drawn for s in samples], skip_special_tokens=True))
        return [[Completion(s.token_ids, s.logprobs, next(texts), s.truncated) for s in samples] for samples in drawn]

    def verify(self, prompts: Sequence[Prompt], drawn: Sequence[Sequence[Completion]]) -> list[RolloutGroup]:
        """Score every completion against its prompt's reference answer."""
        assert self.verifier is not None
        flat = [(c, p.problem.answer) for p, completions in zip(prompts, drawn, strict=True) for c in completions]
        verdicts = iter(self.verifier.score([c.text for c, _ in flat], [a for _, a in flat], [c.truncated for c, _ in flat]))
        return [RolloutGroup(p, list(cs), [next(verdicts) for _ in cs]) for p, cs in zip(prompts, drawn, strict=True)]

    tokenizer: Any = None

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.tokenizer = trainer.datamodule.tokenizer  # type: ignore[attr-defined]

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        if self.engine is not None and self.verifier is not None:
            self.engine.close()
            self.verifier.close()
            self.engine = self.verifier = None


class _timed:
    """Adds the seconds of a block to the meter's mean ``name``."""

    def __init__(self, meter: Any, name: str):
        self.meter, self.name = meter, name

    def __enter__(self) -> None:
        self.start = time.perf_counter()

    def __exit__(self, *_: Any) -> None:
        self.meter.mean(self.name, time.perf_counter() - self.start, 1)
