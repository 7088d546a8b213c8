"""Rules for the rollouts that a method learns from: groups, rewards, temperature."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

import torch
from jaxtyping import Float, Int
from pydantic import Field
from torch import Tensor

from asym_lightning import checks
from asym_lightning.algorithms.steering import Observation, Steered
from asym_lightning.checks import (
    NonNegative,
    Positive,
    PositiveShare,
    Share,
    WholeNumber,
    validated,
)


@validated
class Resample(Steered):
    """AEPO: learning from correct rollouts that are sampled at another temperature.

    A part of the prompts is sampled again, and their correct rollouts are learned from by
    REINFORCE. The temperature is ``high`` while the last step's token-mean entropy is below
    ``target``, else ``low``: learning from hot samples raises entropy, learning from cold ones
    lowers it. The loss term is coef times the aggregation of -logp over the correct re-sampled
    rollouts, normalised by their own count, with log-probs at the rollout temperature and no ratio.

    Source: arXiv 2510.08141 (target .5, temperatures 1.2 and .8). The authors' script re-samples 60
    rollouts a step and advises as few as control the entropy; ``share`` (of the prompts) and
    ``coef`` are our choice. At p = 0: adds nothing.

    Raises:
        FieldError: share outside (0, 1], a temperature or target <= 0, low > high, or coef < 0.
    """

    observes: ClassVar[bool] = True

    def __init__(
        self,
        target: Positive = 0.5,
        high: Positive = 1.2,
        low: Positive = 0.8,
        share: PositiveShare = 0.125,
        coef: NonNegative = 1.0,
    ):
        checks.number("high", high, low)
        self.target, self.high, self.low, self.share, self.coef = target, high, low, share, coef
        self.temperature = high

    def observe(self, seen: Observation) -> None:
        self.temperature = self.high if seen.entropy < self.target else self.low

    def metrics(self) -> dict[str, float]:
        return {"steer/resample_temperature": self.temperature}

    def state_dict(self) -> dict[str, Any]:
        return {"temperature": self.temperature}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.temperature = state["temperature"]


@validated
@dataclass(frozen=True)
class RolloutRules:
    """Rollout-side parts of a recipe; the defaults change nothing.

    Args:
        dynamic_sampling: DAPO (arXiv 2503.14476 section 3.2; 10 in its recipe): drop groups whose
            rewards are all equal and generate others in their place, in at most this many
            generation batches; dropped groups then fill the places still missing. 0 turns it off.
        overlong_share: DAPO's soft overlong punishment (eq. 13): within this last share of the
            token limit a rollout's reward falls linearly by up to 1 (.2 in its recipe: 4096 of
            20480). Rewards become graded. 0 turns it off.
        mask_truncated: rollouts cut off at the limit take part in their group's statistics but not
            in the loss.
        resample: see :class:`Resample`.

    Raises:
        FieldError: a number is out of range, or ``resample`` is not a Resample.
    """

    dynamic_sampling: WholeNumber = 0
    overlong_share: Share = 0.0
    mask_truncated: bool = False
    resample: Annotated[Resample | None, Field(description="null or a Resample (conf/rules)")] = (
        None
    )

    def penalty(
        self, lengths: Int[Tensor, "groups G"], max_tokens: int
    ) -> Float[Tensor, "groups G"]:
        """The addition to the rewards of overlong rollouts, between -1 and 0.

        -clip((length - (max_tokens - buffer)) / buffer, 0, 1) with
        buffer = overlong_share * max_tokens.
        """
        if not self.overlong_share:
            return torch.zeros(lengths.shape)
        buffer = self.overlong_share * max_tokens
        return -((lengths - (max_tokens - buffer)) / buffer).clamp(0, 1)
