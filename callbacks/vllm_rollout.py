"""Grouped rollouts at the start of every iteration: sync, generate, verify, hand over."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from math import inf

import torch
from lightning import Callback, LightningModule, Trainer

from asym_lightning.checks import Share, validated
from asym_lightning.learner.datamodule import RolloutDataModule
from asym_lightning.learner.policy import PolicyModule
from asym_lightning.learner.probe import probe_logprobs
from asym_lightning.learner.rehearsal import SAMPLES, TOKENS, rehearse
from asym_lightning.metrics.rollouts import (
    measure_difficulty,
    measure_dynamic_sampling,
    measure_groups,
    measure_resampled,
)
from asym_lightning.rollout.base import (
    AsynchronousEngine,
    RolloutEngine,
    Sampling,
    SleepingEngine,
    sampling_seed,
)
from asym_lightning.rollout.collect import (
    CollectedRollouts,
    RolloutCollector,
    SamplingRequest,
    gaps,
)
from asym_lightning.rollout.dynamic_sampling import refill
from asym_lightning.rollout.groups import sample
from asym_lightning.rollout.prefetch import Prefetcher
from asym_lightning.runtime.meter import Meter
from asym_lightning.runtime.ranks import reduce_over_ranks
from asym_lightning.runtime.watch.phases import mark
from asym_lightning.types import Completion, EngineMismatchError, RolloutGroup
from asym_lightning.verify.base import Verifier
from asym_lightning.verify.failures import Failures

# Number of prompts on whose log-probs engine and trainer must agree.
PROBES = 2


@validated
@dataclass(frozen=True)
class RolloutSettings:
    """The settings under ``callbacks.rollout``.

    Args:
        max_verify_errors: share of an iteration's answers whose verification may fail before the
            run stops.
    """

    max_verify_errors: Share = 0.05


class VLLMRollout(Callback):
    """Samples G verified completions per prompt with the rollout engine, one engine per rank.

    With ``staleness`` s > 0 a background thread samples the rollouts of iteration i from the
    weights of iteration i - s, while the policy learns from the iterations between. This needs an
    asynchronous engine, which takes weights that were published earlier.

    Args:
        engine: builds the engine on this rank; called once, when the process group exists.
        sampling: group size, temperature, token limit and stop tokens.
        verifier: builds the verifier of the completions.
        seed: decides every sample, together with the iteration and a prompt's number.
        max_verify_errors: as in ``RolloutSettings``.
        staleness: iterations of learning between the weights that sample and those that learn.
    """

    def __init__(
        self,
        engine: Callable[[bool], RolloutEngine],
        sampling: Sampling,
        verifier: Callable[[], Verifier],
        seed: int,
        max_verify_errors: float = 0.05,
        staleness: int = 0,
    ):
        self.failures = Failures(max_verify_errors)
        self._build_engine, self._build_verifier = engine, verifier
        self.sampling, self.seed = sampling, seed
        self.collector: RolloutCollector | None = None
        self.groups: list[RolloutGroup] = []
        self.engine_bytes = 0
        # Optimizer steps behind the weights that the rehearsal gave the engine, until a sync.
        self._synced_at: int | None = None
        self.prefetcher = Prefetcher[CollectedRollouts](staleness) if staleness else None

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        if self.collector is not None:
            return
        allocated = torch.cuda.memory_allocated()
        engine = self._build_engine(trainer.world_size > 1)
        # The engine's tensors in this process on a GPU; they still count while it is asleep.
        self.engine_bytes = torch.cuda.memory_allocated() - allocated
        tokenizer = trainer.datamodule.tokenizer  # type: ignore[attr-defined]
        verifier = self._build_verifier()
        self.collector = RolloutCollector(engine, verifier, tokenizer, seed=self.seed)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Rehearse on the first prompt, after a checkpoint's weights are in place.

        The first sync brings the engine the policy's weights; the first iteration needs no other.
        """
        assert isinstance(pl_module, PolicyModule)
        if pl_module.logprob_gap_limit == inf and self.prefetcher is None:
            return
        assert self.collector is not None
        data: RolloutDataModule = trainer.datamodule  # type: ignore[attr-defined]
        now, engine = trainer.current_epoch, self.collector.engine
        [(_, prompt), *_] = data.prompts(now, trainer.global_rank, trainer.world_size)
        few = replace(self.sampling, n=SAMPLES, max_tokens=min(TOKENS, self.sampling.max_tokens))

        def draw() -> list[Completion]:
            seeds = [sampling_seed(self.seed, "rehearsal")]
            return sample(engine, data.tokenizer, [prompt], sampling=few, seeds=seeds)[0]

        rehearse(
            pl_module,
            prompt.token_ids,
            draw,
            sync=lambda: engine.sync(pl_module.weights(engine.takes_checkpoints), now),
            as_loaded=not trainer.ckpt_path and not isinstance(engine, AsynchronousEngine),
        )
        self._synced_at = pl_module.global_step

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        assert isinstance(pl_module, PolicyModule)
        data: RolloutDataModule = trainer.datamodule  # type: ignore[attr-defined]
        rules, meter = pl_module.algorithm.rules, pl_module.meter
        collect = self._prefetched if self.prefetcher else self._collected_now
        collected = collect(trainer, pl_module)
        self.groups = collected.train
        measure_groups(self.groups, meter)
        data.observe(self.groups)
        if rules.dynamic_sampling:
            self.groups = self._refill(collected, rules.dynamic_sampling, trainer, meter=meter)
        if rules.resample is not None:
            measure_resampled([group for part in collected.resampled for group in part], meter)
        if data.order.difficulty.active:
            measure_difficulty(data.order, data.prompts_per_iteration, meter)
        self._note_failures(list(collected.all_groups()))
        self.failures.settle()
        for name, seconds in collected.seconds.items():
            meter.mean(f"time/{name}", seconds, 1)
        meter.mean("throughput/generated_tokens", collected.tokens * trainer.world_size, 1)
        sleep_seconds = self.sleep()
        if sleep_seconds is not None:
            meter.mean("time/sleep", sleep_seconds, 1)
        data.load_rollouts(self.groups, collected.resampled)

    def _collected_now(self, trainer: Trainer, policy: PolicyModule) -> CollectedRollouts:
        """Rollouts from the current weights."""
        assert self.collector is not None
        collected = CollectedRollouts(trainer.current_epoch)
        with collected.timed("sync"):
            self.sync(policy, collected.version)
        for request in self._requests(trainer, policy, collected.version):
            self.collector.collect(request, collected)
        return collected

    def _prefetched(self, trainer: Trainer, policy: PolicyModule) -> CollectedRollouts:
        """Rollouts that the background thread sampled from earlier weights.

        Also publishes the current weights, and submits the work of later iterations.
        """
        assert self.prefetcher is not None
        engine, now = self._asynchronous_engine(), trainer.current_epoch
        drain_start = time.perf_counter()
        if engine.idle_publish:
            mark("wait")
            self.prefetcher.drain()
        sync_start = time.perf_counter()
        mark("sync")
        engine.publish(policy.weights(engine.takes_checkpoints), now)
        for iteration in self.prefetcher.due(now, (trainer.max_epochs or 0) - 1):
            requests = self._requests(trainer, policy, iteration)
            probe = [prompt.token_ids for _, prompt in requests[0].numbered[:PROBES]]
            expected, bound = probe_logprobs(policy, probe)
            work = partial(
                self._collect_ahead,
                requests,
                CollectedRollouts(now, probe_bound=bound),
                probe=probe,
                expected=expected,
            )
            self.prefetcher.submit(iteration, work)
        wait_start = time.perf_counter()
        mark("wait")
        collected = self.prefetcher.result(now)
        collected.seconds["sync"] = wait_start - sync_start
        policy.meter.mean("time/load", collected.seconds.pop("load"), 1)
        waited = sync_start - drain_start + time.perf_counter() - wait_start
        policy.meter.mean("time/wait", waited, 1)
        policy.meter.mean("rollout/staleness", now - collected.version, 1)
        self._check_probe(collected, policy.meter)
        return collected

    def _asynchronous_engine(self) -> AsynchronousEngine:
        assert self.collector is not None
        return self.collector.engine  # type: ignore[return-value]

    def _collect_ahead(
        self,
        requests: Sequence[SamplingRequest],
        collected: CollectedRollouts,
        probe: Sequence[Sequence[int]],
        expected: list[list[float]],
    ) -> CollectedRollouts:
        """The background thread's work for an iteration. It exchanges nothing with other ranks."""
        assert self.collector is not None
        engine = self._asynchronous_engine()
        with collected.timed("load"):
            engine.load(collected.version)
            collected.probe_gaps = gaps(engine.prompt_logprobs(probe), expected)
        for request in requests:
            self.collector.collect(request, collected)
        return collected

    def _check_probe(self, collected: CollectedRollouts, meter: Meter) -> None:
        """Refuse rollouts of an engine whose log-probs of the probe's prompts are not the policy's.

        A gap that is not a number is refused too.
        """
        gap = torch.tensor(collected.probe_gaps or [0.0])
        meter.maximum("engine/probe_gap_max", gap)
        # Negated, so that nan is refused too.
        refused = torch.tensor(int(not float(gap.mean()) <= collected.probe_bound))
        if int(reduce_over_ranks(refused, "max")):
            raise EngineMismatchError(
                "engine and trainer disagree on the log-probs of prompts under the weights of "
                f"iteration {collected.version}: mean {float(gap.mean()):.3g} nats on this rank, "
                f"and rounding explains {collected.probe_bound:.3g}: the engine has other weights, "
                "or its precision differs from trainer.precision"
            )

    def _requests(
        self, trainer: Trainer, policy: PolicyModule, iteration: int
    ) -> list[SamplingRequest]:
        """This rank's sampling requests for an iteration.

        First that for its prompts, then, with resampling, one per mini-batch for the prompts that
        are sampled again at another temperature.
        """
        data: RolloutDataModule = trainer.datamodule  # type: ignore[attr-defined]
        numbered = data.prompts(iteration, trainer.global_rank, trainer.world_size)
        resample = policy.algorithm.rules.resample
        if resample is None:
            return [SamplingRequest(numbered, self.sampling)]
        sampling = replace(self.sampling, temperature=resample.temperature)
        parts = data.first_of_each_mini_batch(numbered, resample.share)
        return [
            SamplingRequest(numbered, self.sampling),
            *(SamplingRequest(part, sampling, "resample") for part in parts),
        ]

    def _refill(
        self, collected: CollectedRollouts, max_batches: int, trainer: Trainer, meter: Meter
    ) -> list[RolloutGroup]:
        """Replace groups without a signal by dynamic sampling, and measure it."""
        data: RolloutDataModule = trainer.datamodule  # type: ignore[attr-defined]
        assert self.collector is not None
        rank, ranks = trainer.global_rank, trainer.world_size
        refilled = refill(
            self.collector,
            collected,
            max_batches,
            sampling=self.sampling,
            spare_prompts=lambda count: data.spare_prompts(count, rank, ranks),
            observe=data.observe,
        )
        wanted = len(collected.train)
        measure_dynamic_sampling(refilled.sampled, wanted, refilled.batches, meter=meter)
        return refilled.groups

    def _note_failures(self, groups: Sequence[RolloutGroup]) -> None:
        texts = [completion.text for group in groups for completion in group.completions]
        references = [group.prompt.problem.answer for group in groups for _ in group.completions]
        verdicts = [verdict for group in groups for verdict in group.verdicts]
        self.failures.add(texts, references, verdicts)

    def sync(self, policy: PolicyModule, version: int) -> None:
        """Give the engine the policy's current weights, after unfinished rollouts are finished."""
        assert self.collector is not None
        if self.prefetcher is not None:
            self.prefetcher.drain()
        rehearsed, self._synced_at = self._synced_at == policy.global_step, None
        if rehearsed and version == self.collector.engine.version:
            return
        engine = self.collector.engine
        engine.sync(policy.weights(engine.takes_checkpoints), version)

    def sleep(self) -> float | None:
        """Leave the device's memory to the policy until the next sync.

        Returns the seconds that it took; None if the engine cannot, or the settings do not ask for
        it.
        """
        start, engine = time.perf_counter(), self.collector and self.collector.engine
        slept = isinstance(engine, SleepingEngine) and engine.sleep()
        return time.perf_counter() - start if slept else None

    def on_exception(
        self, trainer: Trainer, pl_module: LightningModule, exception: BaseException
    ) -> None:
        # Lightning calls no teardown after an error, and the process would wait for the thread.
        if self.prefetcher is not None:
            self.teardown(trainer, pl_module, "fit")

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        if self.collector is None:
            return
        # The engine first: closing it ends the background thread's sampling.
        self.collector.engine.close()
        if self.prefetcher is not None:
            self.prefetcher.close()
        self.collector.verifier.close()
        self.collector = None
