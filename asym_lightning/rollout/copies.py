"""What a model's weight loader copies where, recorded once, so that new weights go straight into the tensors that an engine computes with.

vLLM's ``reload_weights`` takes a model apart and builds its layers anew, which is right for every model. One that computes with its
parameters as they were loaded needs nothing of that: on a GPU, a dense model that is not quantized.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

_AS_LOADED = {"NoneType", "UnquantizedLinearMethod", "UnquantizedEmbeddingMethod"}


def computes_as_loaded(model: nn.Module) -> bool:
    """Whether a vLLM model's parameters are on a GPU and nothing is derived from them: nothing quantized, no experts, no latent
    attention."""
    return (
        all(parameter.is_cuda for parameter in model.parameters())
        and all(type(getattr(module, "quant_method", None)).__name__ in _AS_LOADED for module in model.modules())
        and not any(hasattr(module, "kv_b_proj") for module in model.modules())
    )


@dataclass
class Part:
    """Elements of a weight, by size, stride and offset from its first one, and the view of a parameter that they go to."""

    size: tuple[int, ...]
    stride: tuple[int, ...]
    offset: int
    target: Tensor


@dataclass
class Copies:
    """The parts of every weight, by its name, with the shape that it has; and what is set to 0, such as rows that pad a vocabulary."""

    parts: dict[str, list[Part]] = field(default_factory=dict)
    shapes: dict[str, torch.Size] = field(default_factory=dict)
    zeros: list[Tensor] = field(default_factory=list)

    @torch.no_grad()
    def apply(self, weights: Iterable[tuple[str, Tensor]]) -> None:
        """Do what the loader did, with other values.

        Raises:
            RuntimeError: these are not the weights that were recorded.
        """
        missing = set(self.parts)
        for name, tensor in weights:
            if self.shapes.get(name) != tensor.shape:
                raise RuntimeError(f"the weight {name} of shape {list(tensor.shape)} is none that the engine was given before")
            source = tensor.contiguous()
            for part in self.parts[name]:
                part.target.copy_(source.as_strided(part.size, part.stride, source.storage_offset() + part.offset))
            missing.discard(name)
        if missing:
            raise RuntimeError(f"{len(missing)} weights did not come, {min(missing)} among them")
        for target in self.zeros:
            target.zero_()


class _Recorder(TorchDispatchMode):
    """Notes what is written to a model's parameters and buffers, and whether it is all ``copies`` of the weight at hand, and zeros."""

    def __init__(self, model: nn.Module):
        super().__init__()
        self.copies, self.exact = Copies(), True
        self._own = {tensor.untyped_storage().data_ptr() for tensor in (*model.parameters(), *model.buffers())}
        self._name, self._source = "", torch.empty(0)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        written = [
            value
            for value, argument in zip(args, func._schema.arguments, strict=False)
            if argument.alias_info is not None and argument.alias_info.is_write and isinstance(value, Tensor)
        ]
        for target in written:
            if target.untyped_storage().data_ptr() in self._own:
                self._note(func, target, args)
        return result

    def _note(self, func: Any, target: Tensor, args: Any) -> None:
        if func is torch.ops.aten.copy_.default and self._from_weight(args[1]):
            offset = args[1].storage_offset() - self._source.storage_offset()
            self.copies.parts[self._name].append(Part(tuple(args[1].shape), args[1].stride(), offset, target))
        elif func is torch.ops.aten.zero_.default or (func is torch.ops.aten.fill_.Scalar and args[1] == 0):
            self.copies.zeros.append(target)
        else:
            self.exact = False

    def _from_weight(self, source: Tensor) -> bool:
        return source.dtype == self._source.dtype and source.untyped_storage().data_ptr() == self._source.untyped_storage().data_ptr()

    def watched(self, weights: Iterable[tuple[str, Tensor]]) -> Iterator[tuple[str, Tensor]]:
        """The weights, each known as the one at hand until the next is asked for."""
        for name, tensor in weights:
            self._name, self._source = name, tensor.contiguous()
            self.copies.parts[name], self.copies.shapes[name] = [], tensor.shape
            yield name, self._source


@torch.no_grad()
def record(model: Any, weights: Iterable[tuple[str, Tensor]]) -> Copies | None:
    """Have ``model`` load weights, and return what it did; None where that is not a matter of copying alone, or a weight went nowhere."""
    recorder = _Recorder(model)
    with recorder:
        model.load_weights(recorder.watched(weights))
    return recorder.copies if recorder.exact and all(recorder.copies.parts.values()) else None
