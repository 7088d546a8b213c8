"""From sampling requests to verified groups, with the seconds and tokens that they took."""

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import chain
from typing import Any

from asym_lightning.rollout import groups
from asym_lightning.rollout.base import RolloutEngine, Sampling, sampling_seed
from asym_lightning.runtime.watch.phases import mark
from asym_lightning.types import EngineMismatchError, Prompt, RolloutGroup
from asym_lightning.verify.base import Verifier


@dataclass(frozen=True)
class SamplingRequest:
    """Prompts to sample completions for.

    Attributes:
        numbered: the prompts, each with its number among the run's prompts.
        sampling: how their completions are sampled.
        purpose: part of every sample's seed: ``train``, ``resample`` or ``refill``.
    """

    numbered: Sequence[tuple[int, Prompt]]
    sampling: Sampling
    purpose: str = "train"


def _no_seconds() -> dict[str, float]:
    return {"sync": 0.0, "generate": 0.0, "verify": 0.0}


@dataclass
class CollectedRollouts:
    """One iteration's rollouts on this rank.

    Attributes:
        version: iterations of learning behind the weights that they were sampled from.
        train: a group for each prompt of the iteration.
        resampled: by mini-batch, the groups of prompts that are sampled again.
        refills: the groups of each further generation batch of dynamic sampling.
        seconds: by phase.
        tokens: number of generated tokens.
        probe_gaps: differences (nats) between the engine's log-probs of the tokens of the probe's
            prompts and the trainer's.
        probe_bound: mean difference that rounding explains.
    """

    version: int
    train: list[RolloutGroup] = field(default_factory=list)
    resampled: list[list[RolloutGroup]] = field(default_factory=list)
    refills: list[list[RolloutGroup]] = field(default_factory=list)
    seconds: dict[str, float] = field(default_factory=_no_seconds)
    tokens: int = 0
    probe_gaps: list[float] = field(default_factory=list)
    probe_bound: float = 0.0

    def add(self, purpose: str, groups: list[RolloutGroup]) -> None:
        """Add the groups of a request, by its purpose."""
        if purpose == "train":
            self.train = groups
        else:
            {"resample": self.resampled, "refill": self.refills}[purpose].append(groups)

    def all_groups(self) -> Iterator[RolloutGroup]:
        """All groups, also those that nothing is learned from."""
        yield from chain(self.train, *self.resampled, *self.refills)

    @contextmanager
    def timed(self, phase: str) -> Iterator[None]:
        """Add the seconds of a block to those of a phase."""
        mark(phase)
        start = time.perf_counter()
        yield
        self.seconds[phase] = self.seconds.get(phase, 0.0) + time.perf_counter() - start


class RolloutCollector:
    """Samples and verifies completions.

    It exchanges nothing with other ranks, so a background thread may use it.

    Args:
        engine: samples the completions.
        verifier: scores them.
        tokenizer: decodes them.
        seed: decides every sample, together with a request's purpose and a prompt's number.
    """

    def __init__(self, engine: RolloutEngine, verifier: Verifier, tokenizer: Any, seed: int):
        self.engine, self.verifier, self.tokenizer, self.seed = engine, verifier, tokenizer, seed

    def collect(self, request: SamplingRequest, into: CollectedRollouts) -> list[RolloutGroup]:
        """Generate and verify a group for each prompt, add the groups to ``into``, return them.

        Raises:
            EngineMismatchError: the engine says that it sampled from weights of another version.
        """
        prompts, seeds = [], []
        for number, prompt in request.numbered:
            prompts.append(prompt)
            seeds.append(sampling_seed(self.seed, request.purpose, number))
        with into.timed("generate"):
            # Also without prompts: ranks that share an engine must call it equally often.
            completions = groups.sample(
                self.engine, self.tokenizer, prompts, sampling=request.sampling, seeds=seeds
            )
        flat = [completion for row in completions for completion in row]
        other_versions = {completion.version for completion in flat} - {into.version}
        if other_versions:
            raise EngineMismatchError(
                f"the engine sampled from the weights of iteration {other_versions.pop()}, "
                f"not of {into.version}"
            )
        into.tokens += sum(len(completion.token_ids) for completion in flat)
        with into.timed("verify"):
            verified = groups.verify(self.verifier, prompts, completions) if prompts else []
        into.add(request.purpose, verified)
        return verified


def gaps(logprobs: Sequence[Sequence[float]], expected: Sequence[Sequence[float]]) -> list[float]:
    """The differences of two tables of log-probs (nats), whose rows have the same lengths."""
    return [
        abs(x - y)
        for row, expected_row in zip(logprobs, expected, strict=True)
        for x, y in zip(row, expected_row, strict=True)
    ]
