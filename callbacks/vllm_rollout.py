"""Grouped rollouts at the start of every iteration: sync, generate, verify, hand over."""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import torch
from lightning import Callback, LightningModule, Trainer

from asym_lightning.learner.datamodule import RolloutDataModule
from asym_lightning.learner.policy import EngineMismatchError, PolicyModule
from asym_lightning.learner.probe import prompt_logprobs
from asym_lightning.metrics.rollouts import measure_difficulty, measure_dynamic_sampling, measure_groups, measure_resampled
from asym_lightning.rollout import groups
from asym_lightning.rollout.ahead import Ahead
from asym_lightning.rollout.base import AsynchronousEngine, RolloutEngine, Sampling, SleepingEngine, sampling_seed
from asym_lightning.runtime.meter import Meter
from asym_lightning.runtime.ranks import over_ranks
from asym_lightning.runtime.watch.phases import mark
from asym_lightning.types import Prompt, RolloutGroup
from asym_lightning.verify.base import Verifier
from asym_lightning.verify.failures import Failures

PROBES = 2  # prompts on whose log-probs engine and trainer have to agree


@dataclass(frozen=True)
class Draw:
    """What is to be sampled: prompts with their numbers among the run's, and how."""

    numbered: Sequence[tuple[int, Prompt]]
    sampling: Sampling
    purpose: str = "train"


@dataclass
class Made:
    """Rollouts of an iteration on this rank: one list of groups per draw, the version of the weights they come from, seconds by phase,
    generated tokens, and how far the engine's log-probs of the probe are from the trainer's (nats)."""

    version: int
    drawn: list[list[RolloutGroup]] = field(default_factory=list)
    seconds: dict[str, float] = field(default_factory=lambda: {"sync": 0.0, "generate": 0.0, "verify": 0.0})
    tokens: int = 0
    probe_gap: float = 0.0

    @contextmanager
    def timed(self, phase: str) -> Iterator[None]:
        """Add the seconds of a block to those of a phase."""
        mark(phase)
        start = time.perf_counter()
        yield
        self.seconds[phase] = self.seconds.get(phase, 0.0) + time.perf_counter() - start


class VLLMRollout(Callback):
    """Makes G verified completions per prompt with the rollout engine, one engine per rank.

    With ``staleness`` s > 0 a background thread makes the rollouts of iteration i with the weights of iteration i - s, while the
    iterations between are learned from; the engine has to be one that takes weights that were published before.

    Args:
        engine: builds the engine on this rank; called once, after the processes have found each other.
        sampling: group size, temperature, token limit and stop tokens.
        verifier: builds what scores the completions.
        seed: with the iteration and a prompt's number it decides every sample.
        max_verify_errors: share of an iteration's answers whose verification may fail before the run stops.
        staleness: iterations of learning between the weights that sample and those that learn.
        probe_limit: with staleness, largest difference of engine and trainer on the log-probs of prompts under the same weights (nats).
    """

    tokenizer: Any = None

    def __init__(
        self,
        engine: Callable[[bool], RolloutEngine],
        sampling: Sampling,
        verifier: Callable[[], Verifier],
        seed: int,
        max_verify_errors: float = 0.05,
        staleness: int = 0,
        probe_limit: float = 1e-3,
    ):
        self.failures = Failures(max_verify_errors)
        self._build, self._build_verifier = engine, verifier
        self.sampling, self.seed, self.probe_limit = sampling, seed, probe_limit
        self.engine: RolloutEngine | None = None
        self.verifier: Verifier | None = None
        self.groups: list[RolloutGroup] = []
        self.engine_bytes = 0
        self.ahead = Ahead[Made](staleness) if staleness else None

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        if self.engine is None:
            before = torch.cuda.memory_allocated()
            self.engine = self._build(trainer.world_size > 1)
            self.engine_bytes = torch.cuda.memory_allocated() - before  # of this process's tensors on a GPU; asleep they still count
            self.verifier = self._build_verifier()

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.tokenizer = trainer.datamodule.tokenizer  # type: ignore[attr-defined]

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        assert isinstance(pl_module, PolicyModule)
        data: RolloutDataModule = trainer.datamodule  # type: ignore[attr-defined]
        rules, meter = pl_module.algorithm.rules, pl_module.meter
        made = self._made_before(trainer, pl_module) if self.ahead else self._made_now(trainer, pl_module)
        drawn, *resampled = made.drawn
        measure_groups(drawn, meter)
        data.observe(drawn)
        self.groups = self._refill(made, rules.dynamic_sampling, trainer, meter) if rules.dynamic_sampling else drawn
        if rules.resample is not None:
            measure_resampled([group for part in resampled for group in part], meter)
        if data.order.difficulty.active:
            measure_difficulty(data.order, data.prompts_per_iteration, meter)
        for part in made.drawn:
            self._note_failures(part)
        self.failures.settle()
        for name, seconds in made.seconds.items():
            meter.mean(f"time/{name}", seconds, 1)
        meter.mean("throughput/generated_tokens", made.tokens * trainer.world_size, 1)
        slept = self.sleep()
        if slept is not None:
            meter.mean("time/sleep", slept, 1)
        data.put(self.groups, resampled)

    def _made_now(self, trainer: Trainer, policy: PolicyModule) -> Made:
        """Rollouts from the weights as they are."""
        made = Made(trainer.current_epoch)
        with made.timed("sync"):
            self.sync(policy, made.version)
        for draw in self._draws(trainer, policy, made.version):
            self._draw(draw, made)
        return made

    def _made_before(self, trainer: Trainer, policy: PolicyModule) -> Made:
        """Rollouts that were begun in an earlier iteration; those of a later one are begun with the weights as they are."""
        assert self.ahead is not None
        engine: AsynchronousEngine = self.engine  # type: ignore[assignment]
        now = trainer.current_epoch
        begun = time.perf_counter()
        if engine.idle_publish:
            mark("wait")
            self.ahead.rest()
        start = time.perf_counter()
        mark("sync")
        engine.publish(policy.weights(), now)
        for iteration in self.ahead.due(now, (trainer.max_epochs or 0) - 1):
            draws = self._draws(trainer, policy, iteration)
            probe = [prompt.token_ids for _, prompt in draws[0].numbered[:PROBES]]
            self.ahead.give(iteration, partial(self._make, draws, Made(now), probe, prompt_logprobs(policy, probe)))
        given = time.perf_counter()
        mark("wait")
        made = self.ahead.take(now)
        made.seconds["sync"] = given - start
        policy.meter.mean("time/load", made.seconds.pop("load"), 1)
        policy.meter.mean("time/wait", start - begun + time.perf_counter() - given, 1)
        policy.meter.mean("rollout/staleness", now - made.version, 1)
        policy.meter.maximum("engine/probe_gap_max", torch.tensor([made.probe_gap]))
        worst = float(over_ranks(torch.tensor(made.probe_gap), "max"))
        if not worst <= self.probe_limit:
            raise EngineMismatchError(
                f"engine and trainer disagree on a prompt token's log-prob under the weights of iteration {made.version} by {worst:.3g} "
                f"(limit {self.probe_limit:g}): the engine's weights are others, or its precision differs from trainer.precision"
            )
        return made

    def _make(self, draws: Sequence[Draw], made: Made, probe: Sequence[Sequence[int]], expected: Sequence[Sequence[float]]) -> Made:
        """What the background thread does for an iteration. It exchanges nothing with other ranks."""
        engine: AsynchronousEngine = self.engine  # type: ignore[assignment]
        with made.timed("load"):
            engine.load(made.version)
            found = engine.prompt_logprobs(probe)
        pairs = zip(found, expected, strict=True)
        made.probe_gap = max((abs(x - y) for one, other in pairs for x, y in zip(one, other, strict=True)), default=0.0)
        for draw in draws:
            self._draw(draw, made)
        return made

    def _draws(self, trainer: Trainer, policy: PolicyModule, iteration: int) -> list[Draw]:
        """This rank's prompts of an iteration, and by mini-batch those that are sampled again at another temperature."""
        data: RolloutDataModule = trainer.datamodule  # type: ignore[attr-defined]
        numbered = data.prompts(iteration, trainer.global_rank, trainer.world_size)
        again = policy.algorithm.rules.resample
        if again is None:
            return [Draw(numbered, self.sampling)]
        sampling = replace(self.sampling, temperature=again.temperature)
        parts = data.first_of_each_mini_batch(numbered, again.share)
        return [Draw(numbered, self.sampling), *(Draw(part, sampling, "resample") for part in parts)]

    def _draw(self, draw: Draw, made: Made) -> None:
        """Generate and verify a group for each prompt of ``draw``.

        Raises:
            EngineMismatchError: the engine says that it sampled from other weights.
        """
        prompts = [prompt for _, prompt in draw.numbered]
        assert self.engine is not None and self.verifier is not None
        seeds = [sampling_seed(self.seed, draw.purpose, number) for number, _ in draw.numbered]
        with made.timed("generate"):
            completions = groups.sample(self.engine, self.tokenizer, prompts, draw.sampling, seeds)  # also where there are none
        others = {c.version for row in completions for c in row} - {made.version}
        if others:
            raise EngineMismatchError(f"the engine sampled from the weights of iteration {others.pop()}, not of {made.version}")
        made.tokens += sum(len(c.token_ids) for row in completions for c in row)
        with made.timed("verify"):
            made.drawn.append(groups.verify(self.verifier, prompts, completions) if prompts else [])

    def _refill(self, made: Made, most_batches: int, trainer: Trainer, meter: Meter) -> list[RolloutGroup]:
        """DAPO's dynamic sampling: as many groups as given, all with a signal as long as ``most_batches`` generation batches suffice.

        Each rank keeps its own groups; all generate as much as the rank that misses most."""
        data: RolloutDataModule = trainer.datamodule  # type: ignore[attr-defined]
        drawn, batches = list(made.drawn[0]), 1
        want = len(drawn)
        kept = [group for group in drawn if len(set(group.rewards)) > 1]
        while batches < most_batches:
            missing = want - len(kept)
            count = min(want, -(-missing * len(drawn) // max(1, len(kept)))) if missing > 0 else 0
            count = int(over_ranks(torch.tensor(count), "max"))
            if not count:
                break
            self._draw(Draw(data.spare_prompts(count, trainer.global_rank, trainer.world_size), self.sampling, "refill"), made)
            more = made.drawn[-1]
            data.observe(more)
            kept += [group for group in more if len(set(group.rewards)) > 1]
            drawn += more
            batches += 1
        measure_dynamic_sampling(drawn, want, batches, meter)
        return (kept + [group for group in drawn if len(set(group.rewards)) == 1])[:want]

    def _note_failures(self, made: Sequence[RolloutGroup]) -> None:
        texts = [completion.text for group in made for completion in group.completions]
        answers = [group.prompt.problem.answer for group in made for _ in group.completions]
        self.failures.add(texts, answers, [verdict for group in made for verdict in group.verdicts])

    def sync(self, policy: PolicyModule, version: int) -> None:
        """Give the engine the policy's weights as they are now; rollouts that are being made are finished first."""
        assert self.engine is not None
        if self.ahead is not None:
            self.ahead.rest()
        self.engine.sync(policy.weights(), version)

    def sleep(self) -> float | None:
        """Leave the device's memory to the policy until the next sync; the seconds that it took, None where engine or settings do not
        do so."""
        start = time.perf_counter()
        slept = isinstance(self.engine, SleepingEngine) and self.engine.sleep()
        return time.perf_counter() - start if slept else None

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        if self.ahead is not None:  # Lightning tears nothing down after an error, and the process would end with the thread's work only
            self.teardown(trainer, pl_module, "fit")

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        if self.engine is not None and self.verifier is not None:
            self.engine.close()  # first: what is being made ends with it
            if self.ahead is not None:
                self.ahead.close()
            self.verifier.close()
            self.engine = self.verifier = None
