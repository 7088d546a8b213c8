"""A check that the engine sampled from the trainer's policy: both must agree on log-probs."""

import torch
from jaxtyping import Float
from torch import Tensor

from asym_lightning.runtime.meter import Meter
from asym_lightning.runtime.ranks import reduce_over_ranks
from asym_lightning.types import EngineMismatchError


def check_gap(gap: Float[Tensor, "n"], limit: float, meter: Meter) -> None:
    """Record the gap between engine and trainer, and refuse one above ``limit`` on any rank.

    Args:
        gap: |engine - trainer| log-probability of this rank's sampled tokens (nats).
        limit: the largest allowed gap (nats).
        meter: gets ``engine/logprob_gap_mean`` and ``engine/logprob_gap_max``.

    Raises:
        EngineMismatchError: the gap of a token of any rank is above ``limit``, or not a number.
    """
    top = gap.amax() if gap.numel() else torch.zeros((), device=gap.device)
    meter.mean("engine/logprob_gap_mean", gap.sum(), gap.numel())
    meter.maximum("engine/logprob_gap_max", gap)
    largest = float(reduce_over_ranks(top, "max"))
    # Negated, so that nan is refused too.
    if not largest <= limit:
        counts = torch.tensor([int((~(gap <= limit)).sum()), gap.numel()])
        beyond, tokens = reduce_over_ranks(counts, "sum").tolist()
        raise EngineMismatchError(
            f"engine and trainer disagree on a sampled token's log-prob by {largest:.3g} (limit "
            f"policy.logprob_gap_limit={limit:g}, passed by {beyond} of {tokens} tokens): "
            "the engine's weights are stale, or its precision differs from trainer.precision"
        )
