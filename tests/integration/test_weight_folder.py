"""The folder through which new weights go to servers, with several processes."""

import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from asym_lightning.rollout.weight_folder import Outbox, Scratch
from tests.support import ROOT
from tests.support.ranks import as_rank, pair


def hand_over(rank: int, _: int, folder: Path) -> tuple[list[str], int, str]:
    """Publish versions of weights; only the first rank's servers have taken the first two.

    At the end rank 0 cannot write to its folder.

    Returns:
        The versions that this rank's servers find, the number of tensors that the rank gathered,
        and its error for the last version.
    """
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
    for path in outbox.folder.rglob("*.safetensors"):
        assert all(tensor.eq(0).all() for tensor in load_file(path).values())
    outbox.folder = Path("/proc/nothing") if rank == 0 else outbox.folder
    with pytest.raises(RuntimeError) as error:
        outbox.publish(weights(), 4)
    return found, gathered, str(error.value)


def test_ranks_publish_in_step_and_keep_what_one_of_them_still_needs(tmp_path: Path) -> None:
    (found, gathered, error), other = pair()(as_rank, hand_over, tmp_path)
    assert found == other[0] == [f"shared-{version + 1}-v{version}" for version in (1, 2, 3)]
    assert gathered == other[1] == 5 * 3, "every rank gathers in step, even if writing fails"
    assert "No such file" in error and "see rank 0" in other[2]


def test_what_a_killed_run_left_in_memory_is_removed_by_the_next() -> None:
    mine = Scratch()
    script = (
        "import os\nfrom asym_lightning.rollout.weight_folder import Scratch\n"
        "print(Scratch().path, flush=True)\nos.kill(os.getpid(), 9)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=False
    )
    left = Path(done.stdout.strip())
    assert done.returncode == -signal.SIGKILL and left.is_dir()
    Scratch().close()
    assert not left.exists() and mine.path.is_dir()
    mine.close()
    assert not mine.path.exists()
