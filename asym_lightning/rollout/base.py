"""The protocols of rollout engines, and the sampling seeds that every engine is given."""

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from torch import Tensor


@dataclass(frozen=True)
class Sampling:
    """How completions are sampled.

    Attributes:
        n: completions per prompt.
        max_tokens: a completion ends after so many tokens.
        temperature: over the full vocabulary; 0: greedily, with ``n`` 1.
        stop_ids: a completion ends with any of these tokens, and with no other token, whatever end
            token a tokenizer or a config names.
    """

    n: int
    max_tokens: int
    temperature: float
    stop_ids: tuple[int, ...]


@dataclass(frozen=True)
class Sample:
    """One sampled completion.

    Attributes:
        token_ids: its tokens.
        logprobs: log-probability of each token at the sampling temperature (nats).
        truncated: the token limit ended it.
        version: of the weights that it was sampled from.
    """

    token_ids: list[int]
    logprobs: list[float]
    truncated: bool
    version: int


class RolloutEngine(Protocol):
    """An engine that samples completions.

    ``sync`` replaces all weights. ``generate`` returns n samples per prompt, in order, each with
    the version of the weights that it was sampled from: the number of iterations of learning behind
    them. For no prompts it returns no samples. All ranks call both methods equally often, with
    prompts or without, since several ranks may share an engine.

    Attributes:
        version: of its weights.
        takes_checkpoints: ``sync`` takes weights as a checkpoint's files hold them; otherwise as
            the state dict of transformers' model does.
    """

    takes_checkpoints: bool
    version: int

    def sync(self, weights: Iterable[tuple[str, Tensor]], version: int) -> None: ...

    def generate(
        self, prompts: Sequence[Sequence[int]], sampling: Sampling, seeds: Sequence[int]
    ) -> list[list[Sample]]: ...

    def close(self) -> None: ...


@runtime_checkable
class SleepingEngine(RolloutEngine, Protocol):
    """An engine on the policy's device that can free its memory until the next sync.

    ``sleep`` does so, and returns False if the engine stays awake.
    """

    def sleep(self) -> bool: ...


@runtime_checkable
class AsynchronousEngine(RolloutEngine, Protocol):
    """An engine outside this process, which can work while the policy learns.

    ``publish`` puts weights where the engine can get them; all ranks call it in step, on the main
    thread. ``load`` makes the engine take published weights. ``load``, ``generate`` and
    ``prompt_logprobs`` may be called from another thread and exchange nothing with other ranks.
    ``prompt_logprobs`` returns the log-prob (nats, at temperature 1) of each token of each prompt
    but its first. With ``idle_publish``, the engine takes no requests while weights are published.
    """

    @property
    def idle_publish(self) -> bool: ...

    def publish(self, weights: Iterable[tuple[str, Tensor]], version: int) -> None: ...

    def load(self, version: int) -> None: ...

    def prompt_logprobs(self, prompts: Sequence[Sequence[int]]) -> list[list[float]]: ...


def sampling_seed(*parts: int | str) -> int:
    """A seed that depends on every part (run seed, purpose, iteration, prompt number) alone."""
    digest = hashlib.blake2b("/".join(map(str, parts)).encode(), digest_size=6).digest()
    return int.from_bytes(digest, "big")
