"""Weights read back from an engine: each one that did not arrive is named."""

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import nn

from asym_lightning.rollout.read_back import Place, ReadBack
from asym_lightning.types import EngineMismatchError

WIDTH, LAYERS = 32, 3


class UnquantizedLinearMethod:
    """Computes with a packed copy, as vLLM does on a CPU."""

    def apply(self, layer: Any, x: torch.Tensor, bias: Any) -> torch.Tensor:
        return x @ layer.packed.T


class UnquantizedEmbeddingMethod:
    """Looks rows up, and computes nothing."""


class UnquantizedFusedMoEMethod:
    """Computes with experts that it has packed."""


class Linear(nn.Module):
    """A vLLM layer whose matrix is packed and dropped."""

    def __init__(self, packed: torch.Tensor, bias: torch.Tensor | None = None):
        super().__init__()
        self.quant_method, self.packed = UnquantizedLinearMethod(), packed
        self.cpu_linear, self.input_size = object(), packed.shape[1]
        self.weight = nn.Parameter(torch.empty(0, dtype=packed.dtype))
        if bias is not None:
            self.bias = nn.Parameter(bias)


class Plain(nn.Module):
    def __init__(self, weight: torch.Tensor):
        super().__init__()
        self.weight = nn.Parameter(weight)


class Embedding(Plain):
    def __init__(self, weight: torch.Tensor):
        super().__init__(weight)
        self.quant_method = UnquantizedEmbeddingMethod()


class Experts(nn.Module):
    def __init__(self, *stacked: torch.Tensor):
        super().__init__()
        self.quant_method = UnquantizedFusedMoEMethod()
        flat = torch.cat([part.flatten() for part in stacked])
        self.w13_weight = nn.Parameter(flat.view(2, -1).T.contiguous())


def weights(seed: int) -> dict[str, torch.Tensor]:
    """A model's weights as a checkpoint has them."""
    generator = torch.Generator().manual_seed(seed)

    def draw(*shape: int) -> torch.Tensor:
        return torch.randn(shape, generator=generator)

    named = {"model.embed.weight": draw(40, WIDTH)}
    for i in range(LAYERS):
        for part in ("q", "k", "v"):
            named[f"model.layers.{i}.attn.{part}.weight"] = draw(WIDTH, WIDTH)
            named[f"model.layers.{i}.attn.{part}.bias"] = draw(WIDTH)
        named[f"model.layers.{i}.mlp.c_fc.weight"] = draw(WIDTH, 2 * WIDTH)  # transposed
        for expert in range(2):
            named[f"model.layers.{i}.mlp.experts.{expert}.up.weight"] = draw(WIDTH, WIDTH)
        named[f"model.layers.{i}.norm.weight"] = torch.ones(WIDTH)
        named[f"model.layers.{i}.mlp.decay"] = draw(WIDTH)  # held in another form
    return named


def engine(given: dict[str, torch.Tensor], dtype: torch.dtype = torch.float32) -> nn.Module:
    """An engine's model that holds weights: merged, transposed, packed."""
    model = nn.Module()
    model.embed = Embedding(given["model.embed.weight"].to(dtype))
    model.lm_head = Linear(given["model.embed.weight"].to(dtype))
    model.layers = nn.ModuleList()
    for i in range(LAYERS):
        prefix = f"model.layers.{i}"
        layer, parts = nn.Module(), ("q", "k", "v")
        qkv = torch.cat([given[f"{prefix}.attn.{part}.weight"] for part in parts])
        bias = torch.cat([given[f"{prefix}.attn.{part}.bias"] for part in parts])
        layer.qkv = Linear(qkv.to(dtype), bias.to(dtype))
        layer.c_fc = Linear(given[f"{prefix}.mlp.c_fc.weight"].T.to(dtype))
        experts = (given[f"{prefix}.mlp.experts.{expert}.up.weight"] for expert in range(2))
        layer.experts = Experts(*(expert.to(dtype) for expert in experts))
        layer.norm = Plain(given[f"{prefix}.norm.weight"].to(dtype))
        layer.decay = nn.Parameter((-given[f"{prefix}.mlp.decay"].exp()).to(dtype))
        model.layers.append(layer)
    return model


def sync(read_back: ReadBack, given: dict[str, torch.Tensor], after: nn.Module) -> None:
    for _ in read_back.watched(iter(given.items())):
        pass
    read_back.check(after)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_weights_that_arrive_are_found_wherever_they_are(dtype: torch.dtype) -> None:
    read_back, given = ReadBack(dtype), weights(0)
    read_back.begin(engine(given, dtype))
    for seed in (0, 1, 2, 3):
        given = weights(seed)
        sync(read_back, given, engine(given, dtype))
    found = {name: places for name, places in read_back.places.items() if places}
    assert {f"model.layers.{i}.experts" for i in range(LAYERS)} <= set(found)
    assert set(weights(0)) - set(found) == {
        *(name for name in weights(0) if any(x in name for x in ("decay", "bias", "experts")))
    }
    assert {place.module for place in found["model.embed.weight"]} == {"embed", "lm_head"}
    assert found["model.layers.1.mlp.c_fc.weight"] == [Place("layers.1.c_fc", "columns", True)]


def stale(kept: str) -> Iterator[tuple[int, nn.Module, dict[str, torch.Tensor]]]:
    """Syncs of new weights, in which one module keeps those of the first."""
    first = engine(weights(0))
    for number in range(1, 2 + LAYERS):
        given = weights(number)
        model = engine(given)
        owner, _, name = kept.rpartition(".")
        setattr(model.get_submodule(owner), name, first.get_submodule(kept))
        yield number, model, given


@pytest.mark.parametrize(
    "kept", ["lm_head", "embed", "layers.0.qkv", "layers.2.c_fc", "layers.1.experts"]
)
def test_a_module_that_keeps_old_weights_is_named(kept: str) -> None:
    read_back = ReadBack(torch.float32)
    read_back.begin(engine(weights(0)))
    sync(read_back, weights(0), engine(weights(0)))
    with pytest.raises(EngineMismatchError, match=rf"did not take .*: {kept} computes"):
        for _, model, given in stale(kept):
            sync(read_back, given, model)


def test_the_first_sync_is_compared_with_what_the_engine_loaded_itself() -> None:
    read_back, given = ReadBack(torch.float32), weights(0)
    read_back.begin(engine(given))
    wrong = engine(given)
    wrong.get_submodule("layers.1.qkv").packed = torch.randn(3 * WIDTH, WIDTH)
    with pytest.raises(EngineMismatchError, match=r"layers\.1\.attn\.q\.weight"):
        sync(read_back, given, wrong)


def test_a_weight_that_is_not_sent_is_named() -> None:
    read_back, given = ReadBack(torch.float32), weights(0)
    read_back.begin(engine(given))
    sync(read_back, given, engine(given))
    given.pop("model.embed.weight")
    with pytest.raises(EngineMismatchError, match=r"was not given .*model\.embed\.weight"):
        sync(read_back, given, engine(weights(0)))


def test_weights_of_a_resumed_run_are_found_after_its_first_sync() -> None:
    read_back, given = ReadBack(torch.float32), weights(5)
    read_back.begin(engine(weights(0)))
    sync(read_back, given, engine(given))
    assert read_back.places["model.layers.0.attn.q.weight"]


def test_a_matrix_of_equal_values_has_no_place_of_its_own() -> None:
    read_back, given = ReadBack(torch.float32), weights(0)
    given["model.embed.weight"] = torch.zeros(40, WIDTH)
    read_back.begin(engine(given))
    sync(read_back, given, engine(given))
    assert read_back.places["model.embed.weight"] == []
    sync(read_back, given, engine(given))


def test_a_matrix_that_becomes_zero_is_still_compared() -> None:
    read_back, given = ReadBack(torch.float32), weights(0)
    read_back.begin(engine(given))
    sync(read_back, given, engine(given))
    given["model.embed.weight"] = torch.zeros(40, WIDTH)
    sync(read_back, given, engine(given))
    with pytest.raises(EngineMismatchError, match="embed computes"):
        sync(read_back, given, engine(weights(0)))
