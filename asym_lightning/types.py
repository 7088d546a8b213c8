"""The only things that travel between rooms: prompts, completions, verdicts, rollout groups and packed batches."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

if TYPE_CHECKING:
    from asym_lightning.ops.attention import Layout


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


@dataclass
class PackedBatch:
    """Sequences laid end to end without padding: one micro-batch.

    ``input_ids`` and ``position_ids`` hold all S tokens (positions restart at 0 in each sequence, and go on after a shared prompt in
    each of its completions); ``layout`` says which of them attend to which. The N completion tokens are addressed by ``predict_at``
    (index of the hidden state that predicts the token), ``targets`` (the token) and ``rows`` (the rollout within the mini-batch it
    belongs to). ``engine_logp`` is what the rollout engine reported. ``logp``, ``entropy`` and ``advantages`` are kept by the optimizer
    step for the diagnostics: what it saw before its update, without gradient, advantages as the modulations left them;
    ``learned`` is False where it took no backward pass.
    """

    input_ids: Int[Tensor, "s"]
    position_ids: Int[Tensor, "s"]
    predict_at: Int[Tensor, "n"]
    targets: Int[Tensor, "n"]
    rows: Int[Tensor, "n"]
    engine_logp: Float[Tensor, "n"]
    layout: "Layout | None" = None
    old_logp: Float[Tensor, "n"] | None = None
    reference_logp: Float[Tensor, "n"] | None = None
    logp: Float[Tensor, "n"] | None = None
    entropy: Float[Tensor, "n"] | None = None
    advantages: Float[Tensor, "n"] | None = None
    learned: bool = True

    def to(self, device: torch.device) -> "PackedBatch":
        moved: dict[str, Any] = {k: v.to(device, non_blocking=True) for k, v in vars(self).items() if isinstance(v, Tensor)}
        return PackedBatch(**moved, layout=self.layout and self.layout.to(device), learned=self.learned)


@dataclass
class MiniBatch:
    """One optimizer step's worth of whole groups on this rank.

    ``rewards`` is [groups, G] and what advantages are made of, ``right`` says which rollouts were verified as right (their kind
    is ``correct``); rollout ``row = group * G + member`` indexes everything flattened. ``token_count`` and ``rollout_count``
    are global: summed over all ranks. ``resampled`` holds further rollouts that are learned from by REINFORCE alone. ``stand`` says for
    how many rollouts each one stands in the diagnostics, where only a part of those without a gradient is scored; None: each for itself.
    """

    rewards: Float[Tensor, "groups G"]
    right: Bool[Tensor, "groups G"]
    lengths: Int[Tensor, "rollouts"]
    micro_batches: list[PackedBatch]
    token_count: int = 0
    rollout_count: int = 0
    groups: list[RolloutGroup] = field(default_factory=list)
    resampled: "MiniBatch | None" = None
    stand: Float[Tensor, "rollouts"] | None = None

    def standing(self) -> Float[Tensor, "n"]:
        """For how many tokens each of :meth:`tokens` stands in a mean over the mini-batch."""
        rows = self.tokens("rows")
        return torch.ones(len(rows), device=rows.device) if self.stand is None else self.stand[rows]

    def tokens(self, name: str) -> Tensor:
        """The field ``name`` of all its micro-batches, one behind the other."""
        return torch.cat([getattr(micro, name) for micro in self.micro_batches])
