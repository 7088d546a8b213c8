"""Data types that the packages exchange: prompts, completions, verdicts and rollout groups."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum


class ConfigError(ValueError):
    """A setting that cannot work.

    The message is one line: what is wrong, where, and what would be correct.
    """

    def at(self, key: str) -> "ConfigError":
        """The same refusal by a part that the config has under ``key``: here the key is known."""
        return self


class FieldError(ConfigError):
    """A field of a part that cannot work, with a message that begins with the field's name.

    A part does not know where the config has it; the builder adds the key.
    """

    def at(self, key: str) -> ConfigError:
        """The same refusal with the config key of the part in front of the field."""
        return ConfigError(f"{key}.{self}")


class PartError(ConfigError):
    """A part that cannot work as a whole, such as one whose package is not installed."""

    def at(self, key: str) -> ConfigError:
        """The same refusal with the config key of the part in front."""
        return ConfigError(f"{key}: {self}")


class EngineMismatchError(RuntimeError):
    """The engine sampled from a policy other than the trainer's.

    Its weights are stale or wrong, or it runs in another precision.
    """


class Kind(StrEnum):
    """The outcome of verifying one completion; every completion has exactly one."""

    CORRECT = "correct"
    WRONG = "wrong"
    NO_ANSWER = "no_answer"
    UNPARSEABLE = "unparseable"
    TIMEOUT = "timeout"
    TRUNCATED = "truncated"
    ERROR = "error"


@dataclass(frozen=True)
class Verdict:
    """The result of verifying one completion.

    ``answer`` is the parsed answer in canonical form (equal answers compare equal), or ``None``
    without an answer. ``detail`` gives the reason for the kinds ``unparseable``, ``timeout`` and
    ``error``. ``parts`` are the components of a composite reward, before its weights.

    ``text`` is the answer as the completion has it, and ``reference`` the text that it was compared
    with. Both are ``None`` where a completion and its reference are no texts of the same sort, as
    with equations for a target.
    """

    reward: float
    kind: Kind
    answer: str | None = None
    detail: str = ""
    parts: Mapping[str, float] = field(default_factory=dict, hash=False)
    text: str | None = None
    reference: str | None = None

    @property
    def is_other_text(self) -> bool | None:
        """Whether text and reference differ in more than white space; ``None`` without them."""
        if self.text is None or self.reference is None:
            return None
        return self.text.split() != self.reference.split()


@dataclass(frozen=True)
class Problem:
    """One problem of a task.

    ``text`` is the question, ``answer`` the reference answer that the verifier needs. ``chat``
    holds the turns (role, content) of a problem that came as a chat.
    """

    id: str
    text: str
    answer: str
    chat: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class Prompt:
    """A problem as the policy sees it: ``token_ids`` include the template.

    ``opening`` is a tag at the end of the prompt that the completion goes on from (``<think>``):
    verifiers see it as the beginning of the completion.
    """

    problem: Problem
    token_ids: tuple[int, ...]
    opening: str = ""


@dataclass(frozen=True)
class Completion:
    """One sampled completion.

    ``token_ids`` include the end token if one was sampled. ``logprobs`` are the engine's
    log-probabilities of those tokens at the sampling temperature (nats), one per token. ``version``
    is the number of training iterations behind the weights that sampled it.
    """

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
