"""The entropy ledger: how much entropy an update kept or removed, on right and on wrong rollouts, beside what the theory says of it.

For a softmax policy and a step of size eta of natural gradient, to first order (arXiv 2505.22617, theorem 2)

    dH(pi(.|s)) = -eta Cov_{a ~ pi(.|s)}(log pi(a|s), A(s, a)) = -eta E[(log pi(a|s) + H(s)) A(s, a)],

the second form because E[log pi] = -H. So one sampled token says -eta (logp + H) A without a bias, from numbers that the step has
anyway, and the sum over tokens falls apart into what right and what wrong rollouts contributed.

eta of an optimizer such as AdamW is no number one could look up. It is measured where the same theory says what it is: the step moves
log pi(a|s) by eta (A - E[A]), so eta is the slope of the moves of the sampled tokens' log-probs against their centred advantages.
Entropy has no part in it: the prediction is one, not a fit. It knows nothing of what an update does to other states than its own, so in a
network, where all states share their weights, it may fall short by far; how far is what the ledger shows.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

ROUNDING = 1e-5  # a centred advantage below this part of its baseline is what rounding left of 0; it would make any step size


@dataclass(frozen=True)
class Entry:
    """One update: the change of the token-mean entropy (nats) that was measured on tokens of right and of wrong rollouts, what the
    theory says that their advantages contributed, and the step size eta that it was said with. Positive and negative add up."""

    measured_positive: float
    measured_negative: float
    predicted_positive: float
    predicted_negative: float
    step_size: float

    @property
    def measured(self) -> float:
        return self.measured_positive + self.measured_negative

    @property
    def predicted(self) -> float:
        return self.predicted_positive + self.predicted_negative


def ledger_sums(
    before: tuple[Float[Tensor, "n"], Float[Tensor, "n"]],
    after: tuple[Float[Tensor, "n"], Float[Tensor, "n"]],
    advantages: Float[Tensor, "n"],
    baseline: Float[Tensor, "n"],
    positive: Bool[Tensor, "n"],
    weights: Float[Tensor, "n"] | None = None,
) -> Float[Tensor, "7"]:
    """What an entry is made of; sums over tokens, so those of several parts and ranks add up.

    Args:
        before, after: log-probability and entropy (nats) of the same tokens before and after the update.
        advantages: what the update weighted each token with.
        baseline: the expected advantage where the token was sampled, in practice the mean of its group.
        positive: the token is of a right rollout.
        weights: of each token in the means; 1 where they are samples, pi(a|s) where all actions are listed.
    """
    (logp, entropy), (new_logp, new_entropy) = ([x.double() for x in pair] for pair in (before, after))
    weight = torch.ones_like(logp) if weights is None else weights.double()
    change = weight * (new_entropy - entropy)
    covariance = weight * (logp + entropy) * advantages.double()
    centred = (advantages - baseline).double()
    centred = centred.where(centred.abs() > ROUNDING * baseline.abs(), 0.0)
    split = [change * positive, change * ~positive, covariance * positive, covariance * ~positive]
    return torch.stack([weight, *split, weight * (new_logp - logp) * centred, weight * centred**2]).sum(1)


def entry(sums: Float[Tensor, "7"]) -> Entry:
    """The entry that the sums over all tokens of an update make. No token: all 0. All advantages alike: no step size, no prediction."""
    count, *split, moved, spread = sums.tolist()
    if not count:
        return Entry(0.0, 0.0, 0.0, 0.0, 0.0)
    measured_positive, measured_negative, positive, negative = (part / count for part in split)
    step_size = moved / spread if spread > 0 else 0.0
    return Entry(measured_positive, measured_negative, -step_size * positive, -step_size * negative, step_size)
