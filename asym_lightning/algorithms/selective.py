"""Modulations of a few tokens, chosen by entropy or covariance within the full mini-batch."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from asym_lightning import checks
from asym_lightning.algorithms.modulation import Modulation
from asym_lightning.algorithms.tokens import Tokens
from asym_lightning.checks import NonNegative, PositiveShare, Share, validated


def covariance(tokens: Tokens) -> Float[Tensor, "n"]:
    """Each token's part in Cov(log-prob, advantage): (logp - mean logp)(A - mean A).

    The means are over all of ``tokens``.
    """
    return (tokens.logp - tokens.logp.mean()) * (tokens.advantages - tokens.advantages.mean())


@validated
@dataclass(frozen=True)
class ClipCov(Modulation):
    """Drops the policy loss of a few random tokens whose covariance is in (low, high).

    It drops max(1, floor(ratio N)) of them, N the number of all tokens. Dropped tokens still count
    in the aggregation.

    Source: arXiv 2505.22617 section 4.2 (ratio 2e-4, covariance in (1, 5)); at least one token as
    in the released code. At p = 0 and p = 1: tokens with A = 0 have a covariance too if the batch's
    mean A is not 0; dropping them changes nothing.
    Tokens that the clip of the loss already drops remain candidates; verl excludes them.

    Raises:
        FieldError: ratio outside (0, 1], or high <= low.
    """

    ratio: PositiveShare = 2e-4
    low: float = 1.0
    high: float = 5.0
    needs_batch: ClassVar[bool] = True
    idle_at_zero: ClassVar[bool] = True

    def __post_init__(self) -> None:
        checks.number("high", self.high, self.low, open_low=True)

    def prepare(self, tokens: Tokens, generator: torch.Generator) -> Float[Tensor, "n"]:
        """0 on the dropped tokens, 1 elsewhere."""
        covariances = covariance(tokens)
        in_range = (covariances > self.low) & (covariances < self.high)
        candidates = in_range.nonzero()[:, 0]
        count = max(1, int(self.ratio * len(covariances)))
        chosen = torch.randperm(len(candidates), generator=generator)[:count]
        keep = torch.ones_like(covariances)
        keep[candidates[chosen.to(covariances.device)]] = 0
        return keep

    def shape_advantages(self, tokens: Tokens) -> Float[Tensor, "n"]:
        assert tokens.plan is not None
        return tokens.advantages * tokens.plan


@validated
@dataclass(frozen=True)
class KLCov(Modulation):
    """Adds coef |logp - old_logp| to the loss of the tokens of the highest covariance.

    These are max(1, floor(ratio N)) of N tokens.

    Source: arXiv 2505.22617 section 4.3 (coef 1, ratio .002 for 7B and .0002 for 32B; .1 is verl's
    coef), used with the unclipped ratio (conf/loss/ratio.yaml). Its gradient is 0 where
    logp = old_logp: on-policy, and in the first of several mini-batches, it does nothing, in every
    implementation.
    At p = 0 and p = 1: as for other tokens.

    Raises:
        FieldError: coef < 0, or ratio outside (0, 1].
    """

    coef: NonNegative = 1.0
    ratio: PositiveShare = 0.002
    needs_batch: ClassVar[bool] = True

    def prepare(self, tokens: Tokens, generator: torch.Generator) -> Float[Tensor, "n"]:
        """1 on the chosen tokens, 0 elsewhere."""
        return _largest(covariance(tokens), self.ratio)

    def loss_term(self, tokens: Tokens) -> Float[Tensor, "n"]:
        assert tokens.plan is not None
        return self.coef * tokens.plan * (tokens.logp - tokens.old_logp).abs()


@validated
@dataclass(frozen=True)
class TopEntropy(Modulation):
    """Keeps the policy loss of the ``share`` of the mini-batch's tokens with the highest entropy.

    At least one token is kept; the others get A = 0.

    Source: "80/20", arXiv 2506.01939 eq. 5 (share .2); the other tokens still count in the
    aggregation, as printed there.

    Raises:
        FieldError: share outside (0, 1].
    """

    share: PositiveShare = 0.2
    needs_batch: ClassVar[bool] = True
    idle_at_zero: ClassVar[bool] = True

    def prepare(self, tokens: Tokens, generator: torch.Generator) -> Float[Tensor, "n"]:
        """1 on the kept tokens, 0 elsewhere."""
        return _largest(tokens.entropy, self.share)

    def shape_advantages(self, tokens: Tokens) -> Float[Tensor, "n"]:
        assert tokens.plan is not None
        return tokens.advantages * tokens.plan


@validated
class SIREN(Modulation):
    """Adds coef (H - anchor)^2 to the loss, H the mean entropy of selected tokens.

    The anchor is H at the first step. The entropy of a token is that within its nucleus of
    probability ``top_p``, renormalised. A token is selected if its entropy is at or above the
    ``quantile`` of the entropies of its rollout (linear interpolation). The mean uses the
    aggregation's weights. Per token the term is linearised, 2 coef (H - anchor) H_t / (weight of
    the selected tokens): its gradient is that of the square.

    Source: arXiv 2509.25133 (top_p .8, quantile .8, coef .005). At p = 0 and p = 1: acts as at any
    other p, it does not use rewards.

    Raises:
        FieldError: coef < 0, top_p outside (0, 1] or quantile outside [0, 1].
    """

    needs_entropy_grad: ClassVar[bool] = True
    needs_batch: ClassVar[bool] = True

    def __init__(
        self, coef: NonNegative = 0.005, top_p: PositiveShare = 0.8, quantile: Share = 0.8
    ):
        self.coef, self.nucleus, self.quantile = coef, top_p, quantile
        self.anchor: float | None = None
        self.mean = float("nan")

    def prepare(self, tokens: Tokens, generator: torch.Generator) -> Float[Tensor, "n"]:
        """The factor of each token's entropy in the loss; 0 on tokens that are not selected."""
        assert tokens.nucleus_entropy is not None
        mask = _at_or_above_quantile(tokens.nucleus_entropy, tokens.rows, self.quantile)
        weight = tokens.weights[mask].sum()
        if not mask.any():
            return torch.zeros_like(tokens.weights)
        self.mean = float((tokens.weights * tokens.nucleus_entropy)[mask].sum() / weight)
        self.anchor = self.mean if self.anchor is None else self.anchor
        return mask.to(weight.dtype) * (2 * self.coef * (self.mean - self.anchor) / weight)

    def loss_term(self, tokens: Tokens) -> Float[Tensor, "n"]:
        assert tokens.plan is not None and tokens.nucleus_entropy is not None
        return tokens.plan * tokens.nucleus_entropy

    def metrics(self) -> dict[str, float]:
        if self.anchor is None:
            return {}
        return {"steer/siren_entropy": self.mean, "steer/siren_anchor": self.anchor}

    def state_dict(self) -> dict[str, Any]:
        return {"anchor": self.anchor}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.anchor = state["anchor"]


def _largest(values: Float[Tensor, "n"], share: float) -> Float[Tensor, "n"]:
    """1 on the max(1, floor(share n)) largest values, 0 elsewhere; of equal values the earlier."""
    count = max(1, int(share * len(values) + 1e-9))
    chosen = values.argsort(descending=True, stable=True)[:count]
    return torch.zeros_like(values).index_fill_(0, chosen, 1)


def _at_or_above_quantile(
    values: Float[Tensor, "n"], rows: Int[Tensor, "n"], quantile: float
) -> Bool[Tensor, "n"]:
    """A mask of the n - ceil(quantile (n - 1)) largest of the n values of each rollout."""
    order = values.argsort(stable=True)
    # Sort by rollout, within a rollout by value.
    order = order[rows[order].argsort(stable=True)]
    _, rollouts, counts = rows.unique(return_inverse=True, return_counts=True)
    first = counts.cumsum(0) - counts
    rank = torch.empty_like(order)
    rank[order] = torch.arange(len(order), device=order.device)
    rank_in_rollout = rank - first[rollouts]
    return rank_in_rollout >= (quantile * (counts[rollouts] - 1) - 1e-9).ceil()
