"""The copies of a model's weight loader, recorded and repeated.

For loaders such as those of vLLM's models, and for loaders that do more than copy.
"""

from collections.abc import Iterable, Iterator

import pytest
import torch
from torch import Tensor, nn

from asym_lightning.rollout.copies import Copies, computes_as_loaded, record

SHAPES = {"q": (4, 6), "k": (2, 6), "embed": (5, 6), "norm": (6,), "part": (8, 2)}


class Model(nn.Module):
    """Loads five weights in the ways of vLLM's models.

    ``q`` and ``k`` share a parameter, ``embed`` gets padding rows, ``norm`` another precision, and
    of ``part`` this rank keeps one half.
    """

    def __init__(self) -> None:
        super().__init__()
        self.qk = nn.Parameter(torch.full((6, 6), torch.nan))
        self.embed = nn.Parameter(torch.full((8, 6), torch.nan))
        self.norm = nn.Parameter(torch.full((6,), torch.nan, dtype=torch.bfloat16))
        self.part = nn.Parameter(torch.full((4, 2), torch.nan))

    def load_weights(self, weights: Iterable[tuple[str, Tensor]]) -> None:
        for name, weight in weights:
            self.load(name, weight)

    def load(self, name: str, weight: Tensor) -> None:
        if name == "q":
            self.qk.data.narrow(0, 0, 4).copy_(weight)
        elif name == "k":
            self.qk.data[4:].copy_(weight)
        elif name == "embed":
            self.embed[:5].data.copy_(weight)
            self.embed[5:].data.fill_(0)
        elif name == "part":
            self.part.data.copy_(weight.narrow(0, 4, 4))
        else:
            getattr(self, name).data.copy_(weight)


class Scaled(Model):
    """Stores a value that differs from the given one."""

    def load(self, name: str, weight: Tensor) -> None:
        super().load(name, weight + 1 if name == "norm" else weight)


class Multiplied(Model):
    """Changes a parameter after it was copied."""

    def load(self, name: str, weight: Tensor) -> None:
        super().load(name, weight)
        if name == "part":
            self.part.data.mul_(2)


class Late(Model):
    """Copies a weight only when the next one arrives."""

    def load_weights(self, weights: Iterable[tuple[str, Tensor]]) -> None:
        before: list[tuple[str, Tensor]] = []
        for pair in weights:
            before.append(pair)
            if len(before) > 1:
                self.load(*before.pop(0))
        self.load(*before[0])


class Item(Model):
    """Fills a parameter with a number that it reads from a weight, without a copy."""

    def load(self, name: str, weight: Tensor) -> None:
        if name == "norm":
            self.norm.data.fill_(float(weight[0]))
        else:
            super().load(name, weight)


class Deaf(Model):
    """Leaves a weight out."""

    def load(self, name: str, weight: Tensor) -> None:
        if name != "k":
            super().load(name, weight)


def weights(seed: int) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return {name: torch.randn(shape, generator=generator) for name, shape in SHAPES.items()}


def one_at_a_time(given: dict[str, Tensor]) -> Iterator[tuple[str, Tensor]]:
    """Yield clones, as gathered shards come: no tensor outlives the next one."""
    for name, tensor in given.items():
        yield name, tensor.clone()


def test_copies_do_what_the_loader_does() -> None:
    model, expected = Model(), Model()
    copies = record(model, one_at_a_time(weights(0)))
    assert isinstance(copies, Copies)
    expected.load_weights(weights(0).items())
    for (name, found), wanted in zip(model.named_parameters(), expected.parameters(), strict=True):
        assert torch.equal(found, wanted), name
    with torch.no_grad():
        for parameter in model.parameters():
            # After a sleep of the engine its memory holds anything.
            parameter.fill_(torch.nan)
    copies.apply(one_at_a_time(weights(1)))
    expected.load_weights(weights(1).items())
    for (name, found), wanted in zip(model.named_parameters(), expected.parameters(), strict=True):
        assert torch.equal(found, wanted), name


def test_a_weight_may_lie_in_memory_otherwise_than_it_did() -> None:
    model, expected, given = Model(), Model(), weights(1)
    copies = record(model, weights(0).items())
    assert copies is not None
    expected.load_weights(given.items())
    stored = torch.zeros(7, 12)
    stored[1:5, ::2] = given["q"]
    copies.apply((given | {"q": stored[1:5, ::2]}).items())
    assert torch.equal(model.qk, expected.qk)


@pytest.mark.parametrize(
    "model",
    [Scaled(), Multiplied(), Late(), Item(), Deaf()],
    ids=lambda model: type(model).__name__,
)
def test_a_loader_that_does_more_than_copy_is_not_copied(model: Model) -> None:
    assert record(model, one_at_a_time(weights(0))) is None
    expected = type(model)()
    expected.load_weights(weights(0).items())
    for found, wanted in zip(model.parameters(), expected.parameters(), strict=True):
        equal = torch.equal(found.nan_to_num(9), wanted.nan_to_num(9))
        assert equal, "the weights are loaded all the same"


def test_other_weights_than_those_recorded_are_refused() -> None:
    copies = record(Model(), weights(0).items())
    assert copies is not None
    with pytest.raises(RuntimeError, match=r"1 weights are missing, k among them"):
        copies.apply((name, tensor) for name, tensor in weights(1).items() if name != "k")
    message = r"the weight k of shape \[3, 6\] is not among the weights that the engine loaded"
    with pytest.raises(RuntimeError, match=message):
        copies.apply((weights(1) | {"k": torch.zeros(3, 6)}).items())
    with pytest.raises(RuntimeError, match="the weight bias of shape"):
        copies.apply((weights(1) | {"bias": torch.zeros(6)}).items())


def test_an_engine_on_a_cpu_packs_its_matrices_so_it_reloads() -> None:
    assert not computes_as_loaded(Model())
