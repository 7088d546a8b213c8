"""Averages of per-token losses: one weight per token, so that the loss is sum(per_token * weight).

The counts are global (all ranks, all micro-batches of the optimizer step). The sum over the tokens
of all ranks is then the loss, for any split of the tokens. A trainer whose all-reduce averages
gradients multiplies by the number of ranks.
"""

from dataclasses import dataclass
from typing import Protocol

import torch
from jaxtyping import Float, Int
from torch import Tensor

from asym_lightning.checks import Count, validated


class Aggregation(Protocol):
    """The interface of an aggregation.

    ``lengths`` holds for each token the length in tokens of its rollout.
    """

    def weights(
        self, lengths: Int[Tensor, "n"], token_count: int, rollout_count: int
    ) -> Float[Tensor, "n"]: ...


@dataclass(frozen=True)
class TokenMean:
    """w = 1 / token_count: every token counts the same.

    Source: DAPO, arXiv 2503.14476 eq. 12; verl "token-mean".

    Raises:
        ValueError: there are tokens but token_count < 1.
    """

    def weights(
        self, lengths: Int[Tensor, "n"], token_count: int, rollout_count: int
    ) -> Float[Tensor, "n"]:
        return _ones(lengths, token_count, "token_count") / token_count


@dataclass(frozen=True)
class SequenceMeanTokenMean:
    """w = 1 / (length * rollout_count): every rollout counts the same.

    Source: GRPO, arXiv 2402.03300 eq. 3; verl "seq-mean-token-mean".

    Raises:
        ValueError: there are tokens but rollout_count < 1.
    """

    def weights(
        self, lengths: Int[Tensor, "n"], token_count: int, rollout_count: int
    ) -> Float[Tensor, "n"]:
        return _ones(lengths, rollout_count, "rollout_count") / lengths / rollout_count


@validated
@dataclass(frozen=True)
class SequenceSumOverConstant:
    """w = 1 / (max_tokens * rollout_count): no dependence on length.

    ``max_tokens`` is the generation limit, ``${rollout.max_tokens}`` in the config.
    Source: Dr.GRPO, arXiv 2503.20783; verl "seq-mean-token-sum-norm".

    Raises:
        FieldError: max_tokens is not a whole number >= 1.
        ValueError: there are tokens but rollout_count < 1.
    """

    max_tokens: Count

    def weights(
        self, lengths: Int[Tensor, "n"], token_count: int, rollout_count: int
    ) -> Float[Tensor, "n"]:
        return _ones(lengths, rollout_count, "rollout_count") / (self.max_tokens * rollout_count)


def _ones(lengths: Int[Tensor, "n"], count: int, name: str) -> Float[Tensor, "n"]:
    """Ones in the default float dtype, but at least float32.

    Within a step of a pure bf16 trainer the default dtype is bf16. A batch without tokens may have
    count 0; a batch with tokens may not.
    """
    if lengths.numel() and count < 1:
        raise ValueError(
            f"{name}={count} with {lengths.numel()} tokens: "
            "must be the global count of the optimizer step"
        )
    dtype = torch.promote_types(torch.get_default_dtype(), torch.float32)
    return torch.ones_like(lengths, dtype=dtype)
