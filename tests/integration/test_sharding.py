"""The same updates from one process, from two with full policies and from two with shards.

The packing of tokens into micro-batches makes no difference.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.tensor import Replicate, Shard, distribute_tensor

from asym_lightning.learner.fsdp import FSDP2, full_tensor
from asym_lightning.learner.strategies import clip_gradients
from asym_lightning.learner.zero import DeepSpeed, full_state_dict
from asym_lightning.types import ConfigError
from benchmarks.memory import Setting, Shape, parts, table
from tests.support import ROOT
from tests.support.ranks import as_rank, on_two_ranks, pair
from tests.support.update_cases import CASES, COVER, DIVIDED, REST, RUNS
from tests.support.updates import (
    VOCABULARY,
    on_each_rank,
    on_each_rank_by_deepspeed,
    rest_on_each_rank,
    rest_on_each_rank_by_deepspeed,
    updated,
)

STAGES = [pytest.param(stage, marks=[] if stage == 3 else pytest.mark.full) for stage in (1, 2, 3)]


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("results")
    updated("tied", "auto", 10_000, epochs=1, keep=folder / "plain", devices=1)
    on_two_ranks(on_each_rank, folder)
    on_two_ranks(on_each_rank_by_deepspeed, folder)
    return folder


@pytest.fixture(scope="module")
def rest(results: Path) -> Path:
    """The same folder, with the results of all other combinations too."""
    on_two_ranks(rest_on_each_rank, results)
    on_two_ranks(rest_on_each_rank_by_deepspeed, results)
    return results


def assert_equal(
    got: dict[str, torch.Tensor], want: dict[str, torch.Tensor], tolerance: float = 1e-5
) -> None:
    assert got.keys() == want.keys()
    for name in want:
        assert got[name].shape == want[name].shape and type(got[name]) is torch.Tensor
        torch.testing.assert_close(
            got[name],
            want[name],
            rtol=0,
            atol=tolerance,
            msg=lambda text, name=name: f"{name}: {text}",
        )


@pytest.mark.parametrize("case", CASES)
def test_three_updates_are_the_same_for_one_process_ddp_fsdp2_and_deepspeed(
    case: str, results: Path
) -> None:
    want = updated(case, "auto", 10_000, devices=1)
    assert_equal(updated(case, "auto", 40, devices=1)["weights"], want["weights"])
    assert want["norms"][0] > 0.05, "the test needs gradients that are clipped"
    assert want["moved"] > 5e-4, "the test needs weights that move"
    combinations = [combination for combination in COVER if combination[0] == case]
    assert_same_updates(combinations, want, results)


@pytest.mark.full
@pytest.mark.parametrize("case", CASES)
def test_three_updates_are_the_same_in_all_other_combinations(case: str, rest: Path) -> None:
    combinations = [combination for combination in REST if combination[0] == case]
    assert_same_updates(combinations, updated(case, "auto", 10_000, devices=1), rest)


def assert_same_updates(
    combinations: Sequence[tuple[str, str, int]], want: dict[str, Any], folder: Path
) -> None:
    assert combinations
    for case, name, budget in combinations:
        got = torch.load(folder / f"{case}-{name}-{budget}.pt")
        assert_equal(got["weights"], want["weights"])
        assert got["norms"] == pytest.approx(want["norms"], rel=1e-5)
        assert bool(got["shards"]) is name.startswith(("fsdp2", "zero3"))


@pytest.mark.parametrize("case", DIVIDED)
def test_three_updates_are_the_same_where_two_ranks_compute_every_layer_together(
    case: str, results: Path
) -> None:
    assert_same_divided(case, 40, results)


@pytest.mark.full
@pytest.mark.parametrize("case", DIVIDED)
def test_layers_of_two_ranks_are_the_same_in_one_micro_batch(case: str, rest: Path) -> None:
    assert_same_divided(case, 10_000, rest)


def assert_same_divided(case: str, budget: int, folder: Path) -> None:
    want = updated(case, "auto", 10_000, devices=1)
    assert want["norms"][0] > 0.05 and want["moved"] > 5e-4
    got = torch.load(folder / f"{case}-{budget}.pt")
    assert_equal(got["weights"], want["weights"])
    assert got["norms"] == pytest.approx(want["norms"], rel=1e-5)
    assert got["bytes"] < 0.75 * want["bytes"], "a rank must hold half of each layer"


def test_a_checkpoint_of_shards_is_one_of_whole_weights(results: Path) -> None:
    """A run in shards resumes from shards and from one process, one process resumes from shards."""
    kept, plain = (
        torch.load(results / name / "epoch=0.ckpt", weights_only=True) for name in ("kept", "plain")
    )
    assert_equal(kept["state_dict"], plain["state_dict"])
    want = torch.load(results / "uninterrupted.pt")["weights"]
    for name in ("kept", "plain"):
        assert_equal(torch.load(results / f"resumed-{name}.pt")["weights"], want)
    checkpoint = results / "kept" / "epoch=0.ckpt"
    single = updated("tied", "auto", 10_000, epochs=2, resume=checkpoint, devices=1)
    assert_equal(single["weights"], want)
    assert changed(kept["state_dict"], want), "the second epoch must change something"


def changed(checkpoint: dict[str, torch.Tensor], weights: dict[str, torch.Tensor]) -> bool:
    """Whether any weight differs from the checkpoint's by more than 1e-3."""
    return any((checkpoint[f"model.{n}"] - weights[n]).abs().max() > 1e-3 for n in weights)


@pytest.mark.parametrize("stage", STAGES)
def test_deepspeed_goes_on_from_a_checkpoint_in_parts_and_makes_whole_weights_of_it(
    stage: int, results: Path, request: pytest.FixtureRequest
) -> None:
    if stage != 3:
        request.getfixturevalue("rest")
    want = torch.load(results / f"zero{stage}-uninterrupted.pt")["weights"]
    got = torch.load(results / f"zero{stage}-resumed.pt")["weights"]
    assert all(torch.equal(got[name], want[name]) for name in want)
    checkpoints = [results / f"zero{stage}" / f"epoch={epoch}.ckpt" for epoch in (0, 1)]
    first, last = (full_state_dict(checkpoint) for checkpoint in checkpoints)
    assert_equal({name: last[f"model.{name}"] for name in want}, want, 0.0)
    assert changed(first, want), "the second epoch must change something"


@pytest.mark.parametrize("stage", STAGES)
def test_deepspeed_keeps_weights_in_bf16_and_updates_an_fp32_copy(
    stage: int, results: Path, request: pytest.FixtureRequest
) -> None:
    if stage != 3:
        request.getfixturevalue("rest")
    low = torch.load(results / f"zero{stage}-bf16.pt")
    full = torch.load(results / "untied-ddp-40.pt")
    assert all(tensor.dtype == torch.bfloat16 for tensor in low["weights"].values())
    assert low["norms"] != full["norms"] and low["norms"] == pytest.approx(full["norms"], rel=0.05)
    weights = {name: tensor.float() for name, tensor in low["weights"].items()}
    assert_equal(weights, full["weights"], 5e-3)


def test_layers_in_bf16_leave_weights_and_gradients_in_fp32(results: Path) -> None:
    low, full = torch.load(results / "bf16.pt"), torch.load(results / "untied-fsdp2-10000.pt")
    assert low["bytes"] == full["bytes"]
    assert all(tensor.dtype == torch.float32 for tensor in low["weights"].values())
    assert low["norms"] != full["norms"] and low["norms"] == pytest.approx(full["norms"], rel=0.05)


@pytest.mark.parametrize(("name", "ranks"), [("ddp", 1), ("fsdp2", 2), ("fsdp2-offload", 2)])
def test_a_rank_holds_what_the_formula_says(name: str, ranks: int, results: Path) -> None:
    for case, tied in (("tied", True), ("untied", False)):
        shape = Shape(
            hidden=32,
            layers=3,
            heads=4,
            kv_heads=2,
            head_dim=8,
            intermediate=63,
            vocabulary=VOCABULARY,
            tied=tied,
        )
        said = parts(shape, Setting(ranks, 40, 1, 8))["policy"] * 1e9
        result = torch.load(results / f"{case}-{name}-{dict(RUNS)[name]}.pt")
        assert result["bytes"] == pytest.approx(said, rel=0.03)


def test_the_table_of_the_documentation_is_current() -> None:
    page = (ROOT / "docs" / "scaling.md").read_text()
    assert table(16384, 16, 4096) in page, "run `python benchmarks/memory.py`"


def test_the_norm_of_plain_gradients_is_torchs() -> None:
    parameter = torch.nn.Parameter(torch.zeros(2))
    parameter.grad = torch.tensor([3.0, 4.0])
    norm = clip_gradients([parameter, torch.nn.Parameter(torch.zeros(3))], 1.0)
    assert float(norm) == pytest.approx(5.0)
    assert parameter.grad.tolist() == pytest.approx([0.6, 0.8])


def mixed_gradients(rank: int, world: int) -> list[float]:
    """Clip gradients on two device meshes, sharded and replicated, and plain ones.

    Returns:
        The norm of the full gradients, the norm that clipping found, and the largest difference of
        a clipped gradient from the full one, clipped.
    """
    mesh = init_device_mesh("cpu", (1, world), mesh_dim_names=("data_parallel", "tensor_parallel"))
    row, shard = mesh["tensor_parallel"], Shard(0)
    places: list[Any] = [
        (mesh, [shard, shard]),
        (mesh, [shard, Shard(1)]),
        (mesh, [shard, Replicate()]),
        (row, [shard]),
        (row, [Replicate()]),
        None,
    ]
    random = torch.Generator().manual_seed(0)
    full = [torch.randn(7, 5, generator=random) for _ in places]
    parameters = []
    for gradient, place in zip(full, places, strict=True):
        copy = gradient.clone()
        part = distribute_tensor(copy, *place) if place else copy
        parameters.append(torch.nn.Parameter(torch.zeros_like(part)))
        parameters[-1].grad = part
    dense = torch.cat([gradient.flatten() for gradient in full]).norm()
    norm = clip_gradients([*parameters, torch.nn.Parameter(torch.zeros(3))], 0.5)
    clipped = [full_tensor(p.grad, torch.device("cpu")) for p in parameters]  # type: ignore[arg-type]
    wrong = [
        float((got - 0.5 * gradient / dense).abs().max())
        for got, gradient in zip(clipped, full, strict=True)
    ]
    return [float(dense), float(norm), max(wrong)]


def test_the_norm_of_gradients_on_two_meshes_is_that_of_the_full_gradient() -> None:
    one, two = pair()(as_rank, mixed_gradients)
    for dense, norm, wrong in (one, two):
        assert norm == pytest.approx(dense, rel=1e-6) and dense > 10
        assert wrong < 1e-6
    assert one[1] == two[1], "ranks with different norms would drift apart"


def test_without_gradients_the_norm_is_zero() -> None:
    assert float(clip_gradients([torch.nn.Parameter(torch.zeros(3))], 1.0)) == 0.0


@pytest.mark.parametrize(
    ("key", "given"),
    [
        ("param_dtype=float16", {"param_dtype": "float16"}),
        ("reduce_each=epoch", {"reduce_each": "epoch"}),
        ("timeout_minutes=0", {"timeout_minutes": 0}),
    ],
)
def test_bad_settings_name_the_key(key: str, given: dict[str, Any]) -> None:
    with pytest.raises(ConfigError) as caught:
        FSDP2(**given)
    assert str(caught.value).startswith(f"{key}: must be ")


def test_deepspeed_says_that_it_is_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("asym_lightning.learner.zero.find_spec", lambda _: None)
    missing = r"trainer=deepspeed needs deepspeed.*pip install -e '\.\[deepspeed\]'"
    with pytest.raises(ConfigError, match=missing):
        DeepSpeed()
