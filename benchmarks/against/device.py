"""GPU memory in use during the phases of a run, by all owners: policy, engine, CUDA itself."""

import json
import threading
from pathlib import Path

import torch
from lightning import Callback, LightningModule, Trainer

from asym_lightning.runtime.watch.phases import training_state

_EVERY_S = 0.02


class DeviceMemory(Callback):
    """Write into ``path`` the most memory in use during each phase, and the least (bytes).

    The first iteration does not count.
    """

    def __init__(self, path: str):
        self.path = Path(path)
        self.most: dict[str, int] = {}
        self.least: dict[str, int] = {}
        self._done = threading.Event()

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if trainer.current_epoch == 0:
            self._thread = threading.Thread(
                target=self._watch, args=(pl_module.device,), daemon=True
            )
            self._thread.start()

    def _watch(self, device: torch.device) -> None:
        while not self._done.wait(_EVERY_S):
            phase = training_state.phase
            free, total = torch.cuda.mem_get_info(device)
            if phase != training_state.phase:  # it may belong to either
                continue
            self.most[phase] = max(self.most.get(phase, 0), total - free)
            self.least[phase] = min(self.least.get(phase, total), total - free)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._done.set()
        self._thread.join()
        self.path.write_text(json.dumps({"most": self.most, "least": self.least}))
