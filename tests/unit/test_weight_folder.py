"""Folders that carry new weights to the servers."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from asym_lightning.rollout.weight_folder import Outbox, write


def test_weights_are_written_in_buckets_and_old_ones_removed(tmp_path: Path) -> None:
    weights = {f"w{i}": torch.full((4, 8), float(i)) for i in range(5)} | {"ids": torch.arange(3)}
    write(weights.items(), tmp_path / "one", torch.bfloat16, bucket_bytes=2 * 4 * 8 * 2)
    files = sorted((tmp_path / "one").iterdir())
    assert [len(load_file(path)) for path in files] == [2, 2, 2]
    found = {name: tensor for path in files for name, tensor in load_file(path).items()}
    assert found["w3"].dtype == torch.bfloat16
    assert torch.equal(found["w3"].float(), weights["w3"])
    assert found["ids"].tolist() == [0, 1, 2]
    outbox = Outbox(tmp_path / "run", 0, torch.float32)
    for version in (0, 0, 1):
        outbox.publish(iter(weights.items()), version)
    assert [outbox.find(version)[0] for version in (0, 1)] == [2, 3]
    assert len(list(outbox.folder.iterdir())) == 3
    outbox.taken = 2
    outbox.publish(weights.items(), 2)
    left = sorted(path.name for path in outbox.folder.iterdir())
    assert left == [outbox.find(version)[1].name for version in (1, 2)]
    with pytest.raises(RuntimeError, match=r"cannot be written to .* \(rollout\.servers\.folder\)"):
        Outbox(Path("/proc/nothing"), 0, torch.float32).publish(weights.items(), 0)


def test_files_in_memory_that_were_taken_are_written_over(tmp_path: Path) -> None:
    """As bfloat16, and from a tensor that is not contiguous.

    Files that no server took are left alone, and a folder appears complete.
    """

    def weights(value: float) -> dict[str, torch.Tensor]:
        return {
            "w": torch.full((3, 4), value).T,
            "one": torch.tensor(value),
            "ids": torch.arange(3) + int(value),
        }

    outbox = Outbox(tmp_path / "run", 0, torch.bfloat16, reuse=True)
    nodes = []
    for version in range(5):
        outbox.publish(weights(float(version)).items(), version)
        number, folder = outbox.find(version)
        (file,) = folder.iterdir()
        nodes.append(file.stat().st_ino)
        found = load_file(file)
        shapes = {name: (tensor.shape, tensor.dtype) for name, tensor in found.items()}
        assert shapes == {
            "w": ((4, 3), torch.bfloat16),
            "one": ((), torch.bfloat16),
            "ids": ((3,), torch.int64),
        }
        for name, tensor in weights(float(version)).items():
            assert torch.equal(found[name], tensor.to(found[name].dtype))
        outbox.taken = 0 if version == 0 else number - (version == 3)
        left = {path.name for path in outbox.folder.iterdir()}
        kept = {0: [0], 1: [0, 1], 2: [2], 3: [3], 4: [3, 4]}[version]
        assert left == {outbox.find(number)[1].name for number in kept}
    assert nodes[1] == nodes[2] == nodes[3] != nodes[4] and nodes[0] != nodes[1]
    outbox.close()
    assert not outbox.folder.exists()
