"""The private names of transformers that this package uses."""

from typing import Any

from torch import nn


def layers_of(model: Any) -> list[nn.Module]:
    """Return the modules that are layers of a model; none if its class does not say which.

    Needed since no public name lists them for every architecture.

    Upstream: https://github.com/huggingface/transformers/issues/24568
    Versions: transformers>=5.16,<5.20 (tried with 5.19.0)
    """
    names = getattr(model, "_no_split_modules", None) or ()
    return [module for module in model.modules() if type(module).__name__ in names]


def attention_in(model: Any) -> str:
    """Return the name of the attention function that a model uses.

    Needed to go back to it after another was set.

    Upstream: https://github.com/huggingface/transformers/pull/38974
    Versions: transformers>=5.16,<5.20 (tried with 5.19.0)
    """
    return getattr(model.config, "_attn_implementation", None) or "eager"


def set_attention(model: Any, name: str) -> None:
    """Make a model use a registered attention function.

    Needed since the public ``set_attn_implementation`` decides by the source text of the model's
    module whether it can, and where it finds that it cannot only warns: the model would go on with
    an attention that ignores the layout.

    Upstream: https://github.com/huggingface/transformers/pull/38974
    Versions: transformers>=5.16,<5.20 (tried with 5.19.0)
    """
    model.config._attn_implementation = name


def has_other_form(model: Any) -> bool:
    """Return whether the files of a checkpoint hold other tensors than the model's state dict.

    Needed to leave out the conversion of models that have none; transformers keeps what it
    converted as it loaded a model, and has a table for models that were built.

    Upstream: no issue found
    Versions: transformers>=5.16,<5.20 (tried with 5.19.0)
    """
    conversions = getattr(model, "_weight_conversions", None)
    if conversions is None:
        from transformers.conversion_mapping import get_model_conversion_mapping

        conversions = get_model_conversion_mapping(model, add_legacy=False)
    return bool(conversions)
