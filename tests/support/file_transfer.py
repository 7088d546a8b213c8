"""A transfer of weights through files, for CPUs, where neither NCCL nor CUDA IPC works.

Only the buckets take another way; all other steps are those of a run and of vLLM.
"""

from dataclasses import dataclass
from pathlib import Path

from safetensors.torch import load_file, save_file
from vllm.distributed.weight_transfer.base import (
    WeightTransferEngine,
    WeightTransferInitInfo,
    WeightTransferUpdateInfo,
)
from vllm.distributed.weight_transfer.factory import WeightTransferEngineFactory
from vllm.model_executor.model_loader.reload import (
    finalize_layerwise_reload,
    initialize_layerwise_reload,
)

from asym_lightning.rollout.server_client import Client
from asym_lightning.rollout.weight_push import Bucket, bucket_info

ENTRY_POINTS = "[vllm.general_plugins]\nfile_transfer = tests.support.file_transfer:register\n"


@dataclass
class Init(WeightTransferInitInfo):
    greeting: str


@dataclass
class Update(WeightTransferUpdateInfo):
    names: list[str]
    dtype_names: list[str]
    shapes: list[list[int]]
    path: str


class FileEngine(WeightTransferEngine[Init, Update]):
    """The server's side: loads weights as vLLM's own engines do."""

    init_info_cls = Init
    update_info_cls = Update
    greeting = ""

    def init_transfer_engine(self, init_info: Init) -> None:
        self.greeting = init_info.greeting

    def start_weight_update(self) -> None:
        initialize_layerwise_reload(self.model)

    def finish_weight_update(self) -> None:
        finalize_layerwise_reload(self.model, self.model_config)

    def update_weights(self, update_info: dict[str, object]) -> None:
        self.receive_weights(self.parse_update_info(update_info))  # there is no device to wait for

    def receive_weights(self, update_info: Update) -> None:
        weights = load_file(update_info.path)
        assert self.greeting
        names, dtypes, shapes = update_info.names, update_info.dtype_names, update_info.shapes
        for name, dtype, shape in zip(names, dtypes, shapes, strict=True):
            assert str(weights[name].dtype) == f"torch.{dtype}"
            assert list(weights[name].shape) == shape
        self.model.load_weights((name, weights[name]) for name in names)

    def shutdown(self) -> None:
        pass


def register() -> None:
    """Make ``nccl`` the transfer by files in this server; vLLM calls this as its plugin."""
    WeightTransferEngineFactory._registry["nccl"] = lambda: FileEngine


def install(folder: Path) -> None:
    """Write the metadata of a package: with ``folder`` on PYTHONPATH vLLM finds ``register``."""
    place = folder / "file_transfer-0.dist-info"
    place.mkdir()
    (place / "METADATA").write_text("Metadata-Version: 2.1\nName: file-transfer\nVersion: 0\n")
    (place / "entry_points.txt").write_text(ENTRY_POINTS)


class Files:
    """The trainer's side: counts the buckets that it sends."""

    def __init__(self, folder: Path):
        self.folder, self.opened, self.sent = folder, 0, 0

    async def open(self, client: Client) -> None:
        self.opened += 1
        await client.post("/init_weight_transfer_engine", {"init_info": {"greeting": "hello"}})

    async def send(self, client: Client, bucket: Bucket) -> None:
        self.sent += 1
        path = self.folder / f"{self.sent}.safetensors"
        save_file(dict(bucket), path)
        update = bucket_info(bucket) | {"path": str(path)}
        await client.post("/update_weights", {"update_info": update})

    def close(self) -> None:
        pass
