"""Weights read back from an engine after a sync: whether it computes with the ones it was given.

An engine merges, transposes and packs weights, so that they cannot be compared as a whole. Two
columns of a matrix can: the layer itself computes them, from inputs that are 1 at one place and 0
at all others, which is exact at any precision. Of the experts of a layer, which are packed
together, sums are compared. Where a weight is held is found once, by its values.
"""

from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from asym_lightning.runtime.pretrained import layer_of
from asym_lightning.types import EngineMismatchError

# The columns that are compared.
COLUMNS = (0, 5)
# The most values of a weight that is no matrix that are compared.
_VALUES = 4096
# Smaller matrices, and those with fewer different values in their columns, are not compared.
_LEAST = 32
_LINEAR = ("UnquantizedLinearMethod", "UnquantizedEmbeddingMethod")
_EXPERTS = "UnquantizedFusedMoEMethod"

Readings = dict[str, dict[str, Tensor]]


@dataclass(frozen=True)
class Place:
    """The place of a weight in an engine: a tensor of a module, perhaps transposed."""

    module: str
    tensor: str
    transposed: bool = False


class ReadBack:
    """Compares a vLLM model's weights with those it was given, one sync after the other.

    The first sync is compared in whole; later ones in the weights of one layer, another each time,
    and in those of no layer, such as the embedding and the output head.

    Args:
        dtype: precision of the engine's weights.

    Attributes:
        places: where the engine holds each weight; none for one that it holds in another form. The
            experts of a layer count as one weight.
    """

    def __init__(self, dtype: torch.dtype):
        self.dtype = dtype
        self.places: dict[str, list[Place]] = {}
        self._given: dict[str, dict[str, Tensor]] = {}
        self._loaded: Readings = {}
        self._layers: list[str] = []
        self._syncs = 0

    def begin(self, model: nn.Module) -> None:
        """Note, before the first sync, what the engine loaded itself from the model's folder."""
        if not self._syncs:
            self._loaded = _readings(model)

    def watched(self, weights: Iterable[tuple[str, Tensor]]) -> Iterator[tuple[str, Tensor]]:
        """Yield weights on their way to the engine, and note values of those to compare."""
        self._given = {}
        for name, tensor in weights:
            if not self._syncs or self._due(name):
                if ".experts." in name or _is_stacked(tensor):
                    self._add_experts(f"{layer_of(name)}.experts", tensor.detach())
                elif not self._syncs:
                    self._given[name] = _values(tensor.detach(), self.dtype)
                elif places := self.places.get(name):
                    forms = {"rows" if place.transposed else "columns" for place in places}
                    self._given[name] = _values(tensor.detach(), self.dtype, forms)
            yield name, tensor

    def _add_experts(self, name: str, tensor: Tensor) -> None:
        own = _sums(tensor.to(self.dtype))
        given = self._given.setdefault(name, {"sums": torch.zeros_like(own)})
        given["sums"] = given["sums"] + own

    def check(self, model: nn.Module) -> None:
        """Compare the weights that were noted with those of the engine.

        Raises:
            EngineMismatchError: the engine does not hold a weight that it was given, or was not
                given one.
        """
        held: Readings = {}
        if not self._syncs:
            held = _readings(model)
            self._find_places(held)
        self._check_complete()
        for name, values in self._given.items():
            for place in self.places[name]:
                if place.module not in held:
                    held[place.module] = _reading(model.get_submodule(place.module))
                if not _holds(held[place.module][place.tensor], values, place.transposed):
                    raise EngineMismatchError(
                        f"the engine did not take the new weight {name}: {place.module} computes "
                        "with other values, so that completions would be another policy's; report "
                        "this with the model's config.json, or use rollout=transformers"
                    )
        self._given, self._syncs = {}, self._syncs + 1

    def _check_complete(self) -> None:
        expected = {name for name, places in self.places.items() if places and self._due(name)}
        missing = expected - self._given.keys()
        if missing:
            raise EngineMismatchError(
                f"the engine was not given {len(missing)} weights that it had in the first sync, "
                f"{min(missing)} among them"
            )

    def _due(self, name: str) -> bool:
        return layer_of(name) in ("", self._layer())

    def _layer(self) -> str:
        return self._layers[self._syncs % len(self._layers)] if self._layers else ""

    def _find_places(self, held: Readings) -> None:
        """Find each weight in what the engine loaded itself, or else in what it holds now."""
        self._layers = sorted({layer_of(name) for name in self._given} - {""})
        for name, values in self._given.items():
            found = []
            if _vary(values):
                found = _places(self._loaded, name, values) or _places(held, name, values)
            self.places[name] = found
        self._loaded = {}


def layer_number(name: str) -> str:
    """The number of the layer that a weight or module belongs to; empty if to none."""
    return layer_of(f"{name}.").rpartition(".")[2]


def _values(
    tensor: Tensor, dtype: torch.dtype, forms: Collection[str] = ("columns", "rows")
) -> dict[str, Tensor]:
    """Values of a weight at the engine's precision: of a matrix's columns and rows, or the first.

    A small matrix has neither.
    """
    if tensor.ndim != 2:
        return {"values": tensor.flatten()[:_VALUES].to(dtype).float()}
    if min(tensor.shape) < _LEAST:
        return {}
    values = {}
    for form in forms:
        lines = tensor.T if form == "columns" else tensor
        values[form] = torch.stack([lines[i] for i in COLUMNS]).to(dtype).float()
    return values


def _vary(values: dict[str, Tensor]) -> bool:
    """Whether a matrix's columns differ enough to be told from those of others."""
    columns = values.get("columns")
    return columns is None or columns.unique().numel() >= _LEAST


def _is_stacked(tensor: Tensor) -> bool:
    """Whether a tensor stacks matrices, as those of experts do; kernels by channel do not."""
    return tensor.ndim > 2 and tensor.shape[1] > 1


def _sums(tensor: Tensor) -> Tensor:
    """The sum of a tensor and of its squares, whatever the order of its elements."""
    squares = tensor.float().square()
    return torch.stack([tensor.sum(dtype=torch.double), squares.sum(dtype=torch.double)])


def _readings(model: nn.Module) -> Readings:
    """The tensors of the modules of a vLLM model, by their names."""
    readings = {name: _reading(module) for name, module in model.named_modules()}
    return {name: reading for name, reading in readings.items() if reading}


@torch.no_grad()
def _reading(module: nn.Module) -> dict[str, Tensor]:
    """The columns of a layer's matrix, the sums of its experts, and its other tensors, by name."""
    method = getattr(module, "quant_method", None)
    kind, tensors = type(method).__name__, dict(module.named_parameters(recurse=False))
    if kind == _EXPERTS:
        return {"sums": torch.stack([_sums(tensor) for tensor in tensors.values()]).sum(0)}
    reading = {}
    if kind in _LINEAR:
        reading["columns"] = _columns(module, method)
        tensors.pop("weight")
    for name, tensor in tensors.items():
        if tensor.numel():
            reading[name] = tensor.flatten()[:_VALUES].float()
    return reading


def _columns(module: Any, method: Any) -> Tensor:
    """Columns of a layer's matrix, computed by the layer wherever it does not only look up."""
    if module.weight.numel() and getattr(module, "cpu_linear", None) is None:
        return module.weight[:, list(COLUMNS)].T.float()
    names = ("input_size_per_partition", "input_size", "embedding_dim")
    width = next(getattr(module, name) for name in names if hasattr(module, name))
    one_hot = torch.zeros(len(COLUMNS), width, dtype=module.weight.dtype)
    one_hot[range(len(COLUMNS)), list(COLUMNS)] = 1
    return method.apply(module, one_hot, None).float()


def _places(readings: Readings, weight: str, values: dict[str, Tensor]) -> list[Place]:
    """All places that hold a weight. Of one that is no matrix, the module must have its name."""
    owner, _, own = weight.rpartition(".")
    found = []
    for module, reading in readings.items():
        if layer_number(module) != layer_number(weight):
            continue
        for key, held in reading.items():
            named = key == own and module.rpartition(".")[2] == owner.rpartition(".")[2]
            if "values" in values and not named:
                continue
            found += [
                Place(module, key, transposed)
                for transposed in (False, True)
                if _holds(held, values, transposed)
            ]
    return found


def _holds(held: Tensor, values: dict[str, Tensor], transposed: bool) -> bool:
    """Whether a reading has all the values of a weight.

    Columns may be merged with others, or have their rows in another order.
    """
    if "values" in values:
        return not transposed and torch.equal(values["values"], held)
    if "sums" in values:
        return not transposed and held.dtype == torch.double and _close(values["sums"], held)
    sought = values.get("rows" if transposed else "columns")
    if sought is None or held.ndim != 2 or sought.shape[1] > held.shape[1]:
        return False
    if sought.shape == held.shape:
        return torch.equal(sought, held) or torch.equal(sought.sort().values, held.sort().values)
    width = sought.shape[1]
    begins = (held[0, : held.shape[1] - width + 1] == sought[0, 0]).nonzero()[:, 0].tolist()
    return any(torch.equal(held[:, at : at + width], sought) for at in begins)


def _close(given: Tensor, held: Tensor) -> bool:
    """Whether two sums are equal but for the order in which they were added."""
    # Of n elements, the sum may differ by the root of n times their squares' sum, times epsilon.
    slack = 1e-9 * (given[1].sqrt() + given[1])
    return bool(((given - held.to(given.device)).abs() <= slack).all())
