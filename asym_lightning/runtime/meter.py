"""Means and maxima over all ranks, weighted by counts."""

from collections.abc import Callable

import torch
from torch import Tensor


class Meter:
    """Sums, counts and maxima of an iteration, collected on the device.

    :meth:`compute` makes one reduction and one copy to the host for all sums, and one for all
    maxima.

    Every rank must name the same metrics in an iteration (with count 0 where it has no values), so
    that the reduction of the sorted names lines up. A mean over no values is left out of the
    result.
    """

    def __init__(self) -> None:
        self._sums: dict[str, Tensor] = {}
        self._maxima: dict[str, Tensor] = {}

    def mean(self, name: str, total: Tensor | float, count: Tensor | float) -> None:
        """Add ``total`` over ``count`` items to the mean ``name``."""
        values = (total, count)
        device = next((x.device for x in values if isinstance(x, Tensor)), torch.device("cpu"))
        # A number is filled in on the device: to copy it there would wait for the device.
        pair = torch.stack(
            [
                x.detach().to(device, torch.float64)
                if isinstance(x, Tensor)
                else torch.full((), float(x), dtype=torch.float64, device=device)
                for x in values
            ]
        )
        self._sums[name] = self._sums[name].to(device) + pair if name in self._sums else pair

    def maximum(self, name: str, values: Tensor) -> None:
        """Raise the maximum ``name`` to the largest of ``values``; empty ``values`` leave it."""
        if values.numel():
            top = values.detach().double().amax()
        else:
            top = torch.tensor(-torch.inf, dtype=torch.float64, device=values.device)
        self._maxima[name] = torch.maximum(self._maxima[name], top) if name in self._maxima else top

    def compute(
        self, reduce: Callable[[Tensor, str], Tensor], device: torch.device
    ) -> dict[str, float]:
        """Reduce over ranks with ``reduce(tensor, "sum" | "max")`` and clear the meter.

        Returns:
            Metric name -> value.
        """
        result: dict[str, float] = {}
        if self._sums:
            names = sorted(self._sums)
            table = reduce(torch.stack([self._sums[n].to(device) for n in names]), "sum").cpu()
            for name, (total, count) in zip(names, table, strict=True):
                if count > 0:
                    result[name] = float(total / count)
        if self._maxima:
            names = sorted(self._maxima)
            top = reduce(torch.stack([self._maxima[n].to(device) for n in names]), "max").cpu()
            result |= {n: float(v) for n, v in zip(names, top, strict=True) if v > -torch.inf}
        self._sums, self._maxima = {}, {}
        return result
