"""New weights straight into the tensors that an engine computes with, by recorded copies.

The copies that a model's weight loader makes are recorded once, then repeated with new weights.
vLLM's ``reload_weights`` takes a model apart and builds its layers anew, which works for every
model. A model that computes with its parameters as they were loaded does not need that: on a GPU, a
dense model that is not quantized.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from asym_lightning.runtime.torch_patches import WriteObserver

_AS_LOADED = {"NoneType", "UnquantizedLinearMethod", "UnquantizedEmbeddingMethod"}


def computes_as_loaded(model: nn.Module) -> bool:
    """Whether a vLLM model's parameters are on a GPU and nothing is derived from them.

    False for quantized layers, experts and latent attention.
    """
    if not all(parameter.is_cuda for parameter in model.parameters()):
        return False
    for module in model.modules():
        if type(getattr(module, "quant_method", None)).__name__ not in _AS_LOADED:
            return False
        if hasattr(module, "kv_b_proj"):
            return False
    return True


@dataclass
class Part:
    """Elements of a weight, and the view of a parameter that they are copied to.

    The elements are given by size, stride and offset from the weight's first element.
    """

    size: tuple[int, ...]
    stride: tuple[int, ...]
    offset: int
    target: Tensor


@dataclass
class Copies:
    """All copies that a loader made.

    Attributes:
        parts: the copied parts of every weight, by its name.
        shapes: the shape of every weight, by its name.
        zeros: views that the loader set to 0, such as rows that pad a vocabulary.
    """

    parts: dict[str, list[Part]] = field(default_factory=dict)
    shapes: dict[str, torch.Size] = field(default_factory=dict)
    zeros: list[Tensor] = field(default_factory=list)

    @torch.no_grad()
    def apply(self, weights: Iterable[tuple[str, Tensor]]) -> None:
        """Repeat the loader's copies with other values.

        Raises:
            RuntimeError: these are not the weights that were recorded.
        """
        missing = set(self.parts)
        for name, tensor in weights:
            if self.shapes.get(name) != tensor.shape:
                raise RuntimeError(
                    f"the weight {name} of shape {list(tensor.shape)} is not among the weights "
                    "that the engine loaded first"
                )
            source = tensor.contiguous()
            for part in self.parts[name]:
                offset = source.storage_offset() + part.offset
                part.target.copy_(source.as_strided(part.size, part.stride, offset))
            missing.discard(name)
        if missing:
            raise RuntimeError(f"{len(missing)} weights are missing, {min(missing)} among them")
        for target in self.zeros:
            target.zero_()


class _Recorder(WriteObserver):
    """Records the writes to a model's parameters and buffers.

    ``exact`` stays true while every write is a copy of the current weight, or sets zeros.
    """

    def __init__(self, model: nn.Module):
        super().__init__()
        self.copies, self.exact = Copies(), True
        tensors = (*model.parameters(), *model.buffers())
        self._storages = {tensor.untyped_storage().data_ptr() for tensor in tensors}
        self._name, self._source = "", torch.empty(0)

    def wrote(self, func: Any, target: Tensor, args: Any) -> None:
        if target.untyped_storage().data_ptr() not in self._storages:
            return
        fills_zero = func is torch.ops.aten.fill_.Scalar and args[1] == 0
        if func is torch.ops.aten.copy_.default and self._from_weight(args[1]):
            source = args[1]
            offset = source.storage_offset() - self._source.storage_offset()
            part = Part(tuple(source.shape), source.stride(), offset, target=target)
            self.copies.parts[self._name].append(part)
        elif func is torch.ops.aten.zero_.default or fills_zero:
            self.copies.zeros.append(target)
        else:
            self.exact = False

    def _from_weight(self, source: Tensor) -> bool:
        return (
            source.dtype == self._source.dtype
            and source.untyped_storage().data_ptr() == self._source.untyped_storage().data_ptr()
        )

    def watched(self, weights: Iterable[tuple[str, Tensor]]) -> Iterator[tuple[str, Tensor]]:
        """Yield the weights; each is the current weight until the next is asked for."""
        for name, tensor in weights:
            self._name, self._source = name, tensor.contiguous()
            self.copies.parts[name], self.copies.shapes[name] = [], tensor.shape
            yield name, self._source


@torch.no_grad()
def record(model: Any, weights: Iterable[tuple[str, Tensor]]) -> Copies | None:
    """Load weights into ``model`` and return the copies that its loader made.

    Later weights can then be copied directly, without the loader. None if the loader did anything
    but copy and set zeros, or did not use a weight.
    """
    recorder = _Recorder(model)
    with recorder:
        model.load_weights(recorder.watched(weights))
    return recorder.copies if recorder.exact and all(recorder.copies.parts.values()) else None
