"""Completion tokens as losses and modulations get them."""

from dataclasses import dataclass, replace
from typing import NamedTuple

from jaxtyping import Float, Int
from torch import Tensor


class Scores(NamedTuple):
    """The policy's scores of completion tokens (nats).

    The log-probability of the sampled token, the entropy of the full next-token distribution and,
    if a modulation asks for it, the entropy within the nucleus.
    """

    logp: Float[Tensor, "n"]
    entropy: Float[Tensor, "n"]
    nucleus_entropy: Float[Tensor, "n"] | None = None


@dataclass
class Tokens:
    """The completion tokens of a micro-batch.

    In :meth:`Modulation.prepare` they are those of the mini-batch over all ranks.

    ``advantages`` are already shaped by earlier modulations. ``rows`` holds the rollout index of
    each token; all tokens of a rollout are included, in order. ``weights`` are the aggregation's:
    the loss is the sum with these weights over all tokens of all ranks. ``reference_logp`` is set
    if a modulation needs it. ``plan`` is the return value of this modulation's ``prepare`` for
    these tokens.
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
        """A copy without gradient."""
        fields = {name: value for name, value in vars(self).items() if value is not None}
        return replace(self, **{name: value.detach() for name, value in fields.items()})
