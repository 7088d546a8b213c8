"""The rollout engine protocol, and the sampling seeds every engine is given."""

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from torch import Tensor


@dataclass(frozen=True)
class Sampling:
    """How completions are sampled: ``n`` per prompt, at ``temperature`` over the full vocabulary; at 0 greedily, with ``n`` 1; until
    one of ``stop_ids`` (and no other token, whatever a tokenizer or a config holds for an end) or ``max_tokens``."""

    n: int
    max_tokens: int
    temperature: float
    stop_ids: tuple[int, ...]


@dataclass(frozen=True)
class Sample:
    """Token ids of one completion, the log-probability of each at the sampling temperature (nats), whether the token limit ended it,
    and the version of the weights that it was sampled from."""

    token_ids: list[int]
    logprobs: list[float]
    truncated: bool
    version: int


class RolloutEngine(Protocol):
    """What makes completions. ``sync`` replaces all weights; ``generate`` returns n samples per prompt, in order, each with the version
    of the weights that it comes from: the number of iterations of learning behind them. No prompts, no samples; all ranks call both
    equally often, with prompts or without, since some may share an engine."""

    def sync(self, weights: Iterable[tuple[str, Tensor]], version: int) -> None: ...

    def generate(self, prompts: Sequence[Sequence[int]], sampling: Sampling, seeds: Sequence[int]) -> list[list[Sample]]: ...

    def close(self) -> None: ...


@runtime_checkable
class SleepingEngine(RolloutEngine, Protocol):
    """An engine on the device of the policy, to which ``sleep`` leaves the memory until the next sync; False where it stays awake."""

    def sleep(self) -> bool: ...


class AsynchronousEngine(RolloutEngine, Protocol):
    """An engine outside this process, that can work while the policy learns.

    ``publish`` puts weights where the engine can get them; all ranks call it in step, on the main thread. ``load`` has the engine take
    published weights; it, ``generate`` and ``prompt_logprobs`` may be called from another thread and exchange nothing with other ranks.
    ``prompt_logprobs`` gives the log-prob (nats, at temperature 1) of each token of each prompt but its first. With ``idle_publish``
    nothing may be asked of the engine while weights are published.
    """

    @property
    def idle_publish(self) -> bool: ...

    def publish(self, weights: Iterable[tuple[str, Tensor]], version: int) -> None: ...

    def load(self, version: int) -> None: ...

    def prompt_logprobs(self, prompts: Sequence[Sequence[int]]) -> list[list[float]]: ...


def sampling_seed(*parts: int | str) -> int:
    """A seed that depends on every part (run seed, purpose, iteration, prompt number) and on nothing else."""
    digest = hashlib.blake2b("/".join(map(str, parts)).encode(), digest_size=6).digest()
    return int.from_bytes(digest, "big")
