"""How transformers models are loaded, the same for policy and engine."""

from typing import Any

import torch


def load_model(path: str, dtype: torch.dtype, trust_remote_code: bool = False) -> Any:
    """Load a causal language model from a folder or hub id."""
    from transformers import AutoConfig, AutoModelForCausalLM

    config = AutoConfig.from_pretrained(path, trust_remote_code=trust_remote_code)
    return AutoModelForCausalLM.from_pretrained(
        path,
        dtype=dtype,
        trust_remote_code=trust_remote_code,
        attn_implementation=attention_for(config),
    )


def attention_for(config: Any) -> str | None:
    """The attention of transformers for a model config; None: the model's default.

    Its attention by torch's kernel leaves out the cap on attention logits that Gemma 2 has.
    """
    caps = getattr(config.get_text_config(), "attn_logit_softcapping", None)
    return "eager" if caps else None
