"""The entropy ledger: the measured and the predicted change of entropy by an update.

Both are split into the parts of correct and of wrong rollouts. The theory, for a softmax policy
and a step of natural gradient of size eta, to first order (arXiv 2505.22617, theorem 2):

    dH(pi(.|s)) = -eta Cov_{a ~ pi(.|s)}(log pi(a|s), A(s, a))
                = -eta E[(log pi(a|s) + H(s)) A(s, a)]

The second form holds because E[log pi] = -H. So one sampled token gives the unbiased estimate
-eta (logp + H) A, from numbers that the step computes anyway. The sum over tokens splits into the
contributions of correct and of wrong rollouts.

The eta of an optimizer such as AdamW cannot be looked up. The same theory yields it: the step moves
log pi(a|s) by eta (A - E[A]), so eta is the slope of the moves of the sampled tokens' log-probs
against their centred advantages. Entropy does not enter this slope, so the prediction is not a fit.
The theory ignores the effect of an update on states other than the token's own. In a network, where
all states share their weights, the prediction may fall short by far; the ledger shows how far.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

# A centred advantage below this share of its baseline is a rounding error of 0. If it were kept, it
# could produce any step size.
ROUNDING = 1e-5


@dataclass(frozen=True)
class Entry:
    """One update: changes of the token-mean entropy (nats), and the step size eta.

    ``measured_*`` is the change on tokens of correct (positive) and of wrong (negative) rollouts,
    ``predicted_*`` the contribution of their advantages by the theory, with ``step_size`` as eta.
    The positive and the negative part add up to the total.
    """

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
    """The sums over tokens from which :func:`entry` makes an entry.

    Sums of several parts of a batch and of several ranks add up.

    Args:
        before, after: log-probability and entropy (nats) of the same tokens before and after the
            update.
        advantages: the weight of each token in the update.
        baseline: the expected advantage where the token was sampled, in practice the mean of its
            group.
        positive: the token belongs to a correct rollout.
        weights: weight of each token in the means; 1 for sampled tokens, pi(a|s) if all actions
            are listed.
    """
    logp, entropy = (tensor.double() for tensor in before)
    new_logp, new_entropy = (tensor.double() for tensor in after)
    weight = torch.ones_like(logp) if weights is None else weights.double()
    change = weight * (new_entropy - entropy)
    covariance = weight * (logp + entropy) * advantages.double()
    centred = (advantages - baseline).double()
    centred = centred.where(centred.abs() > ROUNDING * baseline.abs(), 0.0)
    terms = [
        weight,
        change * positive,
        change * ~positive,
        covariance * positive,
        covariance * ~positive,
        weight * (new_logp - logp) * centred,
        weight * centred**2,
    ]
    return torch.stack(terms).sum(1)


def entry(sums: Float[Tensor, "7"]) -> Entry:
    """The entry of an update from the sums over all its tokens.

    Without tokens all fields are 0. If all advantages are equal, step size and prediction are 0.
    """
    count, *split, moved, spread = sums.tolist()
    if not count:
        return Entry(
            measured_positive=0.0,
            measured_negative=0.0,
            predicted_positive=0.0,
            predicted_negative=0.0,
            step_size=0.0,
        )
    measured_positive, measured_negative, positive, negative = (part / count for part in split)
    step_size = moved / spread if spread > 0 else 0.0
    return Entry(
        measured_positive=measured_positive,
        measured_negative=measured_negative,
        predicted_positive=-step_size * positive,
        predicted_negative=-step_size * negative,
        step_size=step_size,
    )
