"""New weights on their way to servers: folders of safetensors files that appear whole or not at all."""

import json
import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path

import torch
from filelock import FileLock, Timeout
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor

from asym_lightning.runtime.ranks import over_ranks

BUCKET_BYTES = 256 * 2**20


class Scratch:
    """A folder of this process, in the machine's memory where that is a file system. What a killed process left is removed by the next
    one: it no longer holds its lock."""

    def __init__(self) -> None:
        memory = Path("/dev/shm")
        base = memory if os.access(memory, os.W_OK) else Path(tempfile.gettempdir())
        root = base / f"asym-lightning-{os.getuid()}"
        root.mkdir(mode=0o700, exist_ok=True)
        if root.stat().st_uid != os.getuid() or root.stat().st_mode & 0o077:
            raise PermissionError(f"{root} is open to others: remove it")
        with FileLock(root / "lock"):
            for old in (path for path in root.iterdir() if path.is_dir()):
                lock = FileLock(old / "lock")
                try:
                    lock.acquire(timeout=0)
                except Timeout:
                    continue
                shutil.rmtree(old, ignore_errors=True)
                lock.release(force=True)
            self.path = Path(tempfile.mkdtemp(dir=root))
            self._lock = FileLock(self.path / "lock")
            self._lock.acquire()

    def close(self) -> None:
        shutil.rmtree(self.path, ignore_errors=True)
        self._lock.release(force=True)


def buckets(
    weights: Iterable[tuple[str, Tensor]], dtype: torch.dtype, bucket_bytes: int = BUCKET_BYTES, device: str | None = None
) -> Iterator[dict[str, Tensor]]:
    """Floating-point tensors as ``dtype``, others as they are, on ``device`` or where they lie, several at a time: each bucket has at
    least ``bucket_bytes`` with its last tensor and less without it."""
    bucket: dict[str, Tensor] = {}
    size = 0
    for name, tensor in weights:
        bucket[name] = tensor.to(device or tensor.device, dtype if tensor.is_floating_point() else tensor.dtype).contiguous()
        size += bucket[name].nbytes
        if size >= bucket_bytes:
            yield bucket
            bucket, size = {}, 0
    if bucket:
        yield bucket


def write(weights: Iterable[tuple[str, Tensor]], folder: Path, dtype: torch.dtype, bucket_bytes: int = BUCKET_BYTES) -> None:
    """Write floating-point tensors as ``dtype``, others as they are, to a new ``folder``. At most one bucket and the tensor that fills
    it are held."""
    beside = folder.with_name(f"{folder.name}.tmp")
    beside.mkdir(parents=True)
    for number, bucket in enumerate(buckets(weights, dtype, bucket_bytes, "cpu")):
        save_file(bucket, beside / f"{number:05}.safetensors")
        bucket.clear()
    os.replace(beside, folder)


def mapped(folder: Path) -> dict[str, Tensor]:
    """The bytes of every tensor in a folder of safetensors files, by name, where the file has them: what is written there is in the
    file."""
    found: dict[str, Tensor] = {}
    for path in folder.glob("*.safetensors"):
        with path.open("rb") as file:
            size = int.from_bytes(file.read(8), "little")
            header = json.loads(file.read(size))
        data = torch.from_file(str(path), shared=True, size=path.stat().st_size, dtype=torch.uint8)[8 + size :]
        found |= {name: data[slice(*entry["data_offsets"])] for name, entry in header.items() if name != "__metadata__"}
    return found


class Outbox:
    """Published weights of a run, the same on all ranks: rank 0 writes them, and removes those that every rank's servers have taken.

    Args:
        folder: seen by all ranks and servers.
        rank: of this process.
        dtype: what the servers compute in.
        reuse: write over files that every rank's servers have taken, in place of new ones: a quarter of the time where files lie in
            memory. For folders of one machine, on which every process sees what another writes.
    """

    def __init__(self, folder: Path, rank: int, dtype: torch.dtype, reuse: bool = False):
        self.folder, self.dtype, self._writes, self._reuse = folder, dtype, rank == 0, reuse
        self.taken = 0  # number of the last ones that this rank's servers took
        self._labels: list[tuple[int, str]] = [(0, "")]  # version and folder name, by number
        self._removed = 0
        self._mapped: dict[str, dict[str, Tensor]] = {}  # by folder name, where it was written over once

    def publish(self, weights: Iterable[tuple[str, Tensor]], version: int) -> None:
        """Write weights under the next number; all ranks in step.

        Raises:
            RuntimeError: the folder cannot be written to.
        """
        taken_by_all = -int(over_ranks(torch.tensor(-self.taken), "max"))
        number = len(self._labels)
        label = f"{self.folder.name}-{number}-v{version}"
        failure = ""
        tensors = iter(weights)
        if self._writes:
            old = [name for _, name in self._labels[self._removed + 1 : taken_by_all + 1]]
            spare = old.pop() if self._reuse and old else None
            for name in old:
                self._mapped.pop(name, None)
                shutil.rmtree(self.folder / name, ignore_errors=True)
            try:
                if spare:
                    self._write_over(spare, tensors, label)
                else:
                    write(tensors, self.folder / label, self.dtype)
            except (OSError, SafetensorError) as error:
                failure = str(error)
        self._removed = taken_by_all
        for _ in tensors:  # all ranks gather shards in step
            pass
        if int(over_ranks(torch.tensor(bool(failure)).long(), "max")):
            raise RuntimeError(
                f"weights for the servers cannot be written to {self.folder} (rollout.servers.folder): {failure or 'see rank 0'}"
            )
        self._labels.append((version, label))

    def _write_over(self, old: str, weights: Iterable[tuple[str, Tensor]], label: str) -> None:
        beside = self.folder / f"{label}.tmp"
        os.replace(self.folder / old, beside)
        places = self._mapped[label] = self._mapped.pop(old) if old in self._mapped else mapped(beside)
        with torch.no_grad():
            for name, tensor in weights:
                dtype = self.dtype if tensor.is_floating_point() else tensor.dtype
                places[name].view(dtype).view(tensor.shape).copy_(tensor)
        os.replace(beside, self.folder / label)

    def find(self, version: int) -> tuple[int, Path]:
        """Number and folder of what was published last as ``version``."""
        number = max(i for i, (known, label) in enumerate(self._labels) if known == version and label)
        return number, self.folder / self._labels[number][1]

    def close(self) -> None:
        self._mapped.clear()
        if self._writes:
            shutil.rmtree(self.folder, ignore_errors=True)
