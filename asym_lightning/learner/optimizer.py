"""The optimizer of the policy: AdamW with a linear warm-up."""

from collections.abc import Iterable
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Annotated, Any, Literal

import torch
from pydantic import Field
from torch import Tensor

from asym_lightning.checks import NonNegative, Positive, WholeNumber, validated
from asym_lightning.types import FieldError

# Decay of a running mean.
Beta = Annotated[float, Field(ge=0, lt=1)]


@validated
@dataclass(frozen=True)
class OptimizerSettings:
    """AdamW with gradients clipped to a norm of ``max_grad_norm``.

    Step n of the first ``warmup_steps`` uses n / warmup_steps of ``learning_rate``.

    Args:
        kind: ``adamw`` is torch's fused AdamW; ``adamw_8bit`` is bitsandbytes', whose two moments
            take a byte each per weight (CUDA only).

    Raises:
        FieldError: a number is out of range, the kind is unknown, its package is not installed, or
            it needs a GPU and there is no GPU.
    """

    learning_rate: Positive
    betas: Annotated[
        tuple[Beta, Beta],
        Field(
            strict=False, description="two numbers of at least 0 and below 1, such as [0.9,0.999]"
        ),
    ] = (0.9, 0.95)
    weight_decay: NonNegative = 0.0
    warmup_steps: WholeNumber = 0
    max_grad_norm: Positive = 1.0
    eps: NonNegative = 1e-8
    kind: Literal["adamw", "adamw_8bit"] = "adamw"

    def __post_init__(self) -> None:
        if self.kind == "adamw_8bit" and find_spec("bitsandbytes") is None:
            raise FieldError("kind=adamw_8bit: it needs bitsandbytes: pip install bitsandbytes")
        if self.kind == "adamw_8bit" and not torch.cuda.is_available():
            raise FieldError("kind=adamw_8bit: it needs a CUDA GPU; use adamw")


def build_optimizer(
    settings: OptimizerSettings, parameters: Iterable[Tensor]
) -> tuple[torch.optim.Optimizer, Any]:
    """Return the optimizer of the parameters that require a gradient, and its warm-up schedule."""
    s = settings
    options: dict[str, Any] = {
        "lr": s.learning_rate,
        "betas": s.betas,
        "weight_decay": s.weight_decay,
        "eps": s.eps,
    }
    trained = [p for p in parameters if p.requires_grad]
    if s.kind == "adamw_8bit":
        from bitsandbytes.optim import AdamW8bit

        optimizer: torch.optim.Optimizer = AdamW8bit(trained, **options)
    else:
        optimizer = torch.optim.AdamW(trained, fused=True, **options)
    warmup = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: min(1.0, (step + 1) / max(1, s.warmup_steps))
    )
    return optimizer, warmup
