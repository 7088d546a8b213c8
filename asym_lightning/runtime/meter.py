"""Means and maxima over the whole world, by counts."""

from collections.abc import Callable

import torch
from torch import Tensor


class Meter:
    """Collects sums, counts and maxima on the device during an iteration; one reduction and one copy to the host at its end.

    Every rank must name the same metrics in an iteration (with count 0 where it has nothing), so that the reduction of the
    sorted names lines up. A mean over nothing at all is left out of the result rather than shown as a number.
    """

    def __init__(self) -> None:
        self._sums: dict[str, Tensor] = {}
        self._maxima: dict[str, Tensor] = {}

    def mean(self, name: str, total: Tensor | float, count: Tensor | float) -> None:
        """Add ``total`` over ``count`` items to the mean ``name``."""
        device = next((x.device for x in (total, count) if isinstance(x, Tensor)), torch.device("cpu"))
        pair = torch.stack([torch.as_tensor(x, dtype=torch.float64, device=device).detach() for x in (total, count)])
        self._sums[name] = self._sums[name].to(device) + pair if name in self._sums else pair

    def maximum(self, name: str, values: Tensor) -> None:
        """Raise the maximum ``name`` to the largest of ``values``; none at all leaves it."""
        top = values.detach().double().amax() if values.numel() else torch.tensor(-torch.inf, dtype=torch.float64, device=values.device)
        self._maxima[name] = torch.maximum(self._maxima[name], top) if name in self._maxima else top

    def compute(self, reduce: Callable[[Tensor, str], Tensor], device: torch.device) -> dict[str, float]:
        """Reduce over ranks with ``reduce(tensor, "sum" | "max")``, return name -> value and start anew."""
        result: dict[str, float] = {}
        if self._sums:
            names = sorted(self._sums)
            table = reduce(torch.stack([self._sums[n].to(device) for n in names]), "sum").cpu()
            result |= {n: float(total / count) for n, (total, count) in zip(names, table, strict=True) if count > 0}
        if self._maxima:
            names = sorted(self._maxima)
            top = reduce(torch.stack([self._maxima[n].to(device) for n in names]), "max").cpu()
            result |= {n: float(v) for n, v in zip(names, top, strict=True) if v > -torch.inf}
        self._sums, self._maxima = {}, {}
        return result
