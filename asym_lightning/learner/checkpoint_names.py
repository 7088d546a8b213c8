"""Weights under the names, and in the shapes, that a model's files have.

transformers holds some weights in another form than a checkpoint: it stacks the experts of a layer
into one tensor, for one. vLLM's loaders are written for the form of checkpoints.
"""

from collections.abc import Iterable, Iterator
from itertools import groupby
from typing import Any

from torch import Tensor

from asym_lightning.learner.transformers_patches import has_other_form
from asym_lightning.runtime.pretrained import layer_of


def as_in_checkpoint(
    model: Any, weights: Iterable[tuple[str, Tensor]]
) -> Iterator[tuple[str, Tensor]]:
    """Yield weights of a transformers model as a checkpoint of it holds them.

    Converts a layer at a time, so that no more than a layer is held twice.

    Args:
        model: the model that the weights are of; its class, or its own folder, decides the form.
        weights: under the names of the model's state dict, layer by layer.
    """
    if not has_other_form(model):
        yield from weights
        return
    from transformers.core_model_loading import revert_weight_conversion

    for _, layer in groupby(weights, key=lambda item: layer_of(item[0])):
        yield from revert_weight_conversion(model, dict(layer)).items()
