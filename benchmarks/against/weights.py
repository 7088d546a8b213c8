"""Whether training moved the weights."""

from collections.abc import Iterable
from pathlib import Path

from safetensors.torch import load_file
from torch import Tensor


def moved(folder: str | Path, weights: Iterable[tuple[str, Tensor]]) -> float:
    """Share of the trained ``weights`` that differ from those of the model's folder.

    Both are rounded to the same precision.
    """
    start = load_file(Path(folder) / "model.safetensors")
    pairs = [(weight.detach(), start[name].to(weight.dtype)) for name, weight in weights]
    return sum(int((new != old).sum()) for new, old in pairs) / sum(new.numel() for new, _ in pairs)
