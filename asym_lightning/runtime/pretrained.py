"""How transformers models are loaded, the same for policy and engine."""

from typing import Any


def attention_for(config: Any) -> str | None:
    """The attention of transformers for a model config; None: the model's default.

    Its attention by torch's kernel leaves out the cap on attention logits that Gemma 2 has.
    """
    caps = getattr(config.get_text_config(), "attn_logit_softcapping", None)
    return "eager" if caps else None
