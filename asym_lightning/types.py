"""What travels between rooms: prompts, completions, verdicts and rollout groups."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum


class ConfigError(ValueError):
    """A setting that cannot work. The message is one line: what is wrong, where, and what would be right."""


class Kind(StrEnum):
    """How the verification of one completion ended; every completion gets exactly one."""

    CORRECT = "correct"
    WRONG = "wrong"
    NO_ANSWER = "no_answer"
    UNPARSEABLE = "unparseable"
    TIMEOUT = "timeout"
    TRUNCATED = "truncated"
    ERROR = "error"


@dataclass(frozen=True)
class Verdict:
    """Outcome of verifying one completion.

    ``answer`` is the parsed answer in canonical form (equal answers compare equal), ``None`` where there is none.
    ``detail`` says why for the kinds ``unparseable``, ``timeout`` and ``error``. ``parts`` are what a composite reward is made of,
    before its weights.
    """

    reward: float
    kind: Kind
    answer: str | None = None
    detail: str = ""
    parts: Mapping[str, float] = field(default_factory=dict, hash=False)


@dataclass(frozen=True)
class Problem:
    """One problem of a task: ``text`` is what is asked, ``answer`` the reference that the verifier needs. ``chat`` holds the turns
    (role, content) of a problem that came as a chat."""

    id: str
    text: str
    answer: str
    chat: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class Prompt:
    """A problem as the policy sees it: ``token_ids`` include the template."""

    problem: Problem
    token_ids: tuple[int, ...]


@dataclass(frozen=True)
class Completion:
    """One sampled completion. ``token_ids`` include the end token where one was sampled; ``logprobs`` are the engine's
    log-probabilities of those tokens at the sampling temperature (nats), one per token; ``version`` is the number of iterations of
    learning behind the weights that it was sampled from."""

    token_ids: list[int]
    logprobs: list[float]
    text: str
    truncated: bool
    version: int = 0


@dataclass(frozen=True)
class RolloutGroup:
    """The G rollouts of one prompt with their verdicts."""

    prompt: Prompt
    completions: list[Completion]
    verdicts: list[Verdict]

    @property
    def rewards(self) -> list[float]:
        return [verdict.reward for verdict in self.verdicts]
