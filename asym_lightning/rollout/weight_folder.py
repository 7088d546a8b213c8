"""New weights on their way to servers: folders of safetensors that appear when complete."""

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

from asym_lightning.runtime.ranks import reduce_over_ranks

BUCKET_BYTES = 256 * 2**20


class Scratch:
    """A folder of this process, in the machine's memory if that is a file system.

    The next process removes the folder of a killed process, which no longer holds its lock.
    """

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
    weights: Iterable[tuple[str, Tensor]],
    dtype: torch.dtype,
    bucket_bytes: int = BUCKET_BYTES,
    device: str | None = None,
) -> Iterator[dict[str, Tensor]]:
    """Yield weights several at a time.

    Each bucket but the last has at least ``bucket_bytes`` with its last tensor, and less without
    it.

    Args:
        dtype: of floating-point tensors; other tensors keep theirs.
        device: to move tensors to; None leaves them where they are.
    """
    bucket: dict[str, Tensor] = {}
    size = 0
    for name, tensor in weights:
        target_dtype = dtype if tensor.is_floating_point() else tensor.dtype
        bucket[name] = tensor.to(device or tensor.device, target_dtype).contiguous()
        size += bucket[name].nbytes
        if size >= bucket_bytes:
            yield bucket
            bucket, size = {}, 0
    if bucket:
        yield bucket


def write(
    weights: Iterable[tuple[str, Tensor]],
    folder: Path,
    dtype: torch.dtype,
    bucket_bytes: int = BUCKET_BYTES,
) -> None:
    """Write weights to a new ``folder``: floating-point tensors as ``dtype``, others unchanged.

    Holds at most one bucket and the tensor that fills it in memory.
    """
    unfinished = folder.with_name(f"{folder.name}.tmp")
    unfinished.mkdir(parents=True)
    for number, bucket in enumerate(buckets(weights, dtype, bucket_bytes, device="cpu")):
        save_file(bucket, unfinished / f"{number:05}.safetensors")
        bucket.clear()
    os.replace(unfinished, folder)


def mapped(folder: Path) -> dict[str, Tensor]:
    """The bytes of every tensor in a folder of safetensors files, mapped to memory, by name.

    Writing to such a tensor writes to its file.
    """
    tensors: dict[str, Tensor] = {}
    for path in folder.glob("*.safetensors"):
        with path.open("rb") as file:
            header_size = int.from_bytes(file.read(8), "little")
            header = json.loads(file.read(header_size))
        file_size = path.stat().st_size
        content = torch.from_file(str(path), shared=True, size=file_size, dtype=torch.uint8)
        data = content[8 + header_size :]
        for name, entry in header.items():
            if name != "__metadata__":
                tensors[name] = data[slice(*entry["data_offsets"])]
    return tensors


class Outbox:
    """Published weights of a run, the same on all ranks.

    Rank 0 writes them, and removes those that every rank's servers have taken.

    Args:
        folder: seen by all ranks and servers.
        rank: of this process.
        dtype: precision that the servers compute in.
        reuse: overwrite files that every rank's servers have taken instead of writing new ones; if
            files are in memory, this takes a quarter of the time. For folders of one machine, where
            every process sees the writes of the others.

    Attributes:
        taken: number of the last weights that this rank's servers took.
    """

    def __init__(self, folder: Path, rank: int, dtype: torch.dtype, reuse: bool = False):
        self.folder, self.dtype, self._writes, self._reuse = folder, dtype, rank == 0, reuse
        self.taken = 0
        # Version and folder name, by number.
        self._labels: list[tuple[int, str]] = [(0, "")]
        self._removed = 0
        # The tensors of folders that were overwritten, by folder name.
        self._mapped: dict[str, dict[str, Tensor]] = {}

    def publish(self, weights: Iterable[tuple[str, Tensor]], version: int) -> None:
        """Write weights under the next number; all ranks in step.

        Raises:
            RuntimeError: the folder cannot be written to.
        """
        taken_by_all = -int(reduce_over_ranks(torch.tensor(-self.taken), "max"))
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
                    self._overwrite(spare, tensors, label)
                else:
                    write(tensors, self.folder / label, self.dtype)
            except (OSError, SafetensorError) as error:
                failure = str(error)
        self._removed = taken_by_all
        # Use up the weights on every rank, also after a failure: all ranks gather shards in step.
        for _ in tensors:
            pass
        if int(reduce_over_ranks(torch.tensor(bool(failure)).long(), "max")):
            raise RuntimeError(
                f"weights for the servers cannot be written to {self.folder} "
                f"(rollout.servers.folder): {failure or 'see rank 0'}"
            )
        self._labels.append((version, label))

    def _overwrite(self, old: str, weights: Iterable[tuple[str, Tensor]], label: str) -> None:
        unfinished = self.folder / f"{label}.tmp"
        os.replace(self.folder / old, unfinished)
        targets = self._mapped.pop(old) if old in self._mapped else mapped(unfinished)
        self._mapped[label] = targets
        with torch.no_grad():
            for name, tensor in weights:
                dtype = self.dtype if tensor.is_floating_point() else tensor.dtype
                targets[name].view(dtype).view(tensor.shape).copy_(tensor)
        os.replace(unfinished, self.folder / label)

    def find(self, version: int) -> tuple[int, Path]:
        """Number and folder of the weights that were published last as ``version``."""
        numbers = [i for i, (known, label) in enumerate(self._labels) if label and known == version]
        number = max(numbers)
        return number, self.folder / self._labels[number][1]

    def close(self) -> None:
        self._mapped.clear()
        if self._writes:
            shutil.rmtree(self.folder, ignore_errors=True)
