"""How transformers models are loaded, the same for policy and engine."""

import re
from typing import Any

import torch
from safetensors import SafetensorError

from asym_lightning.types import ConfigError

# The number of the layer that a weight belongs to: `model.layers.3.mlp.down_proj.weight`.
_LAYER = re.compile(r"^(.*?\.\d+)\.")


def load_model(path: str, dtype: torch.dtype, trust_remote_code: bool = False) -> Any:
    """Load a causal language model from a folder or hub id.

    Raises:
        ConfigError: transformers cannot load it, or it has no weights for some layers, which would
            be random.
    """
    from transformers import AutoConfig, AutoModelForCausalLM

    try:
        config = AutoConfig.from_pretrained(path, trust_remote_code=trust_remote_code)
        model, found = AutoModelForCausalLM.from_pretrained(
            path,
            dtype=dtype,
            trust_remote_code=trust_remote_code,
            attn_implementation=attention_for(config),
            output_loading_info=True,
        )
    except (OSError, ValueError, KeyError, ImportError, RuntimeError, SafetensorError) as error:
        reason = " ".join(str(error).split())[:300]
        raise ConfigError(
            f"policy.path={path} cannot be loaded by transformers: {reason}"
        ) from error
    absent = sorted(found["missing_keys"]) + sorted(str(key[0]) for key in found["mismatched_keys"])
    if absent:
        raise ConfigError(
            f"policy.path={path}: {len(absent)} weights are missing or of another shape in its "
            f"files, {absent[0]} among them; they would be random"
        )
    return model


def attention_for(config: Any) -> str | None:
    """The attention of transformers for a model config; None: the model's default.

    Its attention by torch's kernel leaves out the cap on attention logits that Gemma 2 has.
    """
    caps = getattr(config.get_text_config(), "attn_logit_softcapping", None)
    return "eager" if caps else None


def layer_of(name: str) -> str:
    """The name of a weight up to the number of its layer; empty for a weight of no layer."""
    match = _LAYER.match(name)
    return match[1] if match else ""
