"""The rollout engine protocol, and the sampling seeds every engine is given."""

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

from torch import Tensor


@dataclass(frozen=True)
class Sampling:
    """How completions are sampled: ``n`` per prompt, at ``temperature`` over the full vocabulary; at 0 greedily, with ``n`` 1."""

    n: int
    max_tokens: int
    temperature: float
    stop_ids: tuple[int, ...]


@dataclass(frozen=True)
class Sample:
    """Token ids of one completion, the log-probability of each at the sampling temperature (nats), and whether the token
    limit ended it."""

    token_ids: list[int]
    logprobs: list[float]
    truncated: bool


class RolloutEngine(Protocol):
    """What makes completions. ``sync`` replaces all weights; ``generate`` returns n samples per prompt, in order."""

    def sync(self, weights: Iterable[tuple[str, Tensor]]) -> None: ...

    def generate(self, prompts: Sequence[Sequence[int]], sampling: Sampling, seeds: Sequence[int]) -> list[list[Sample]]: ...

    def close(self) -> None: ...


def sampling_seed(*parts: int | str) -> int:
    """A seed that depends on every part (run seed, purpose, iteration, prompt number) and on nothing else."""
    digest = hashlib.blake2b("/".join(map(str, parts)).encode(), digest_size=6).digest()
    return int.from_bytes(digest, "big")
