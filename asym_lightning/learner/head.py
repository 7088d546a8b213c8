"""The output head of a model: its weight, and what the model does to logits after it."""

from dataclasses import dataclass
from typing import Any

from torch import Tensor

from asym_lightning.types import ConfigError

# Keys of transformers' configs: logits are tanh(logits / cap) * cap.
CAPS = ("final_logit_softcapping", "logits_soft_cap")
# Logits are multiplied by these (Cohere, Falcon-H1; HyperCLOVA X names its own as Granite does) ...
FACTORS = ("logit_scale", "lm_head_multiplier")
MULTIPLIED = ("hyperclovax",)
# ... or divided by this one (Granite, MiniCPM).
DIVISOR = "logits_scaling"


@dataclass(frozen=True)
class OutputHead:
    """logits = cap * tanh(z / cap), or z without a cap; z = scale * (hidden @ weight.T + bias)."""

    weight: Tensor
    bias: Tensor | None = None
    scale: float = 1.0
    cap: float | None = None


def output_head(model: Any) -> OutputHead:
    """Return the head of a transformers causal language model, with its scale and cap.

    Raises:
        ConfigError: the model scales and caps its logits.
    """
    head, config = model.get_output_embeddings(), model.config.get_text_config()
    cap = next((float(value) for name in CAPS if (value := getattr(config, name, None))), None)
    scale = next((float(value) for name in FACTORS if (value := getattr(config, name, None))), 1.0)
    if divisor := getattr(config, DIVISOR, None):
        scale = float(divisor) if config.model_type in MULTIPLIED else 1 / float(divisor)
    if cap is not None and scale != 1.0:
        raise ConfigError(
            f"policy.path: {type(model).__name__} scales its logits and caps them; "
            "the trainer can do one of the two"
        )
    return OutputHead(head.weight, getattr(head, "bias", None), scale=scale, cap=cap)
