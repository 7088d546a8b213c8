"""What losses and modulations see of the completion tokens."""

from dataclasses import dataclass, replace
from typing import NamedTuple

from jaxtyping import Float, Int
from torch import Tensor


class Scores(NamedTuple):
    """What the policy says of completion tokens: log-probability of the sampled token, entropy of the full next-token distribution,
    and, where a modulation asks for it, entropy within the nucleus (all nats)."""

    logp: Float[Tensor, "n"]
    entropy: Float[Tensor, "n"]
    nucleus_entropy: Float[Tensor, "n"] | None = None


@dataclass
class Tokens:
    """The completion tokens of a micro-batch, or (in :meth:`Modulation.prepare`) of the mini-batch over all ranks.

    ``advantages`` are those so far: earlier modulations have shaped them. ``rows`` says which rollout a token is of; all tokens of a
    rollout are there, in order. ``weights`` are the aggregation's: a sum over all tokens of all ranks with them is the loss.
    ``reference_logp`` is there if a modulation needs it, ``plan`` is what this modulation's ``prepare`` returned for these tokens.
    """

    logp: Float[Tensor, "n"]
    old_logp: Float[Tensor, "n"]
    entropy: Float[Tensor, "n"]
    advantages: Float[Tensor, "n"]
    rows: Int[Tensor, "n"]
    weights: Float[Tensor, "n"]
    nucleus_entropy: Float[Tensor, "n"] | None = None
    reference_logp: Float[Tensor, "n"] | None = None
    plan: Float[Tensor, "n"] | None = None

    def detached(self) -> "Tokens":
        """The same without gradient."""
        return replace(self, **{name: value.detach() for name, value in vars(self).items() if value is not None})
