"""New weights on their way to servers, through folders."""

import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from asym_lightning.rollout.weight_folder import Outbox, Scratch, write
from tests.conftest import ROOT
from tests.ranks import as_rank, pair


def test_weights_are_written_in_buckets_and_old_ones_removed(tmp_path: Path) -> None:
    weights = {f"w{i}": torch.full((4, 8), float(i)) for i in range(5)} | {"ids": torch.arange(3)}
    write(weights.items(), tmp_path / "one", torch.bfloat16, bucket_bytes=2 * 4 * 8 * 2)
    files = sorted((tmp_path / "one").iterdir())
    assert [len(load_file(path)) for path in files] == [2, 2, 2]
    found = {name: tensor for path in files for name, tensor in load_file(path).items()}
    assert found["w3"].dtype == torch.bfloat16 and torch.equal(found["w3"].float(), weights["w3"]) and found["ids"].tolist() == [0, 1, 2]
    outbox = Outbox(tmp_path / "run", 0, torch.float32)
    for version in (0, 0, 1):
        outbox.publish(iter(weights.items()), version)
    assert [outbox.find(version)[0] for version in (0, 1)] == [2, 3] and len(list(outbox.folder.iterdir())) == 3
    outbox.taken = 2
    outbox.publish(weights.items(), 2)
    assert sorted(path.name for path in outbox.folder.iterdir()) == [outbox.find(version)[1].name for version in (1, 2)]
    with pytest.raises(RuntimeError, match=r"cannot be written to .* \(rollout\.servers\.folder\)"):
        Outbox(Path("/proc/nothing"), 0, torch.float32).publish(weights.items(), 0)


def test_files_in_memory_that_were_taken_are_written_over(tmp_path: Path) -> None:
    """As bfloat16 and from a tensor that is not contiguous; what nobody took is left alone, and a folder appears whole."""

    def weights(value: float) -> dict[str, torch.Tensor]:
        return {"w": torch.full((3, 4), value).T, "one": torch.tensor(value), "ids": torch.arange(3) + int(value)}

    outbox = Outbox(tmp_path / "run", 0, torch.bfloat16, reuse=True)
    nodes = []
    for version in range(5):
        outbox.publish(weights(float(version)).items(), version)
        number, folder = outbox.find(version)
        (file,) = folder.iterdir()
        nodes.append(file.stat().st_ino)
        found = load_file(file)
        assert {name: (t.shape, t.dtype) for name, t in found.items()} == {
            "w": ((4, 3), torch.bfloat16),
            "one": ((), torch.bfloat16),
            "ids": ((3,), torch.int64),
        }
        assert all(torch.equal(found[name], tensor.to(found[name].dtype)) for name, tensor in weights(float(version)).items())
        outbox.taken = 0 if version == 0 else number - (version == 3)
        left = {path.name for path in outbox.folder.iterdir()}
        assert left == {outbox.find(v)[1].name for v in {0: [0], 1: [0, 1], 2: [2], 3: [3], 4: [3, 4]}[version]}
    assert nodes[1] == nodes[2] == nodes[3] != nodes[4] and nodes[0] != nodes[1]
    outbox.close()
    assert not outbox.folder.exists()


def hand_over(rank: int, _: int, folder: Path) -> tuple[list[str], int, str]:
    """What a rank's servers find of three published versions, when only the first rank's have taken the first two; the tensors that a
    rank gathered; and what each says of a folder that rank 0 cannot write to."""
    gathered = 0

    def weights() -> Iterator[tuple[str, torch.Tensor]]:
        nonlocal gathered
        for i in range(3):
            gathered += 1
            yield f"w{i}", torch.full((2,), float(rank))

    outbox = Outbox(folder / "shared", rank, torch.float32)
    for version in range(3):
        outbox.publish(weights(), version)
        outbox.taken = 2 if rank == 0 else 1
    outbox.publish(weights(), 3)
    found = sorted(path.name for path in outbox.folder.iterdir())
    assert all(tensor.eq(0).all() for path in outbox.folder.rglob("*.safetensors") for tensor in load_file(path).values())
    outbox.folder = Path("/proc/nothing") if rank == 0 else outbox.folder
    with pytest.raises(RuntimeError) as error:
        outbox.publish(weights(), 4)
    return found, gathered, str(error.value)


def test_ranks_publish_in_step_and_keep_what_one_of_them_still_needs(tmp_path: Path) -> None:
    (found, gathered, error), other = pair()(as_rank, hand_over, tmp_path)
    assert found == other[0] == [f"shared-{version + 1}-v{version}" for version in (1, 2, 3)]
    assert gathered == other[1] == 5 * 3, "every rank takes part in all gathering, even where writing fails"
    assert "No such file" in error and "see rank 0" in other[2]


def test_what_a_killed_run_left_in_memory_is_removed_by_the_next() -> None:
    mine = Scratch()
    script = (
        "import os\nfrom asym_lightning.rollout.weight_folder import Scratch\nprint(Scratch().path, flush=True)\nos.kill(os.getpid(), 9)"
    )
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=False)
    left = Path(done.stdout.strip())
    assert done.returncode == -signal.SIGKILL and left.is_dir()
    Scratch().close()
    assert not left.exists() and mine.path.is_dir()
    mine.close()
    assert not mine.path.exists()
