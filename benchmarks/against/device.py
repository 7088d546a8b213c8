"""How much of a GPU is in use while a run goes through its phases, whoever holds it: policy, engine, CUDA itself."""

import json
import threading
from pathlib import Path

import torch
from lightning import Callback, LightningModule, Trainer

from asym_lightning.runtime.watch.phases import here

_EVERY_S = 0.02


class DeviceMemory(Callback):
    """Writes into ``path`` the most that was in use during each phase after the first iteration (bytes), and the least."""

    def __init__(self, path: str):
        self.path = Path(path)
        self.most: dict[str, int] = {}
        self.least: dict[str, int] = {}
        self._done = threading.Event()

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if trainer.current_epoch == 0:
            self._thread = threading.Thread(target=self._watch, args=(pl_module.device,), daemon=True)
            self._thread.start()

    def _watch(self, device: torch.device) -> None:
        while not self._done.wait(_EVERY_S):
            phase = here.phase
            free, total = torch.cuda.mem_get_info(device)
            if phase != here.phase:  # it may belong to either
                continue
            self.most[phase] = max(self.most.get(phase, 0), total - free)
            self.least[phase] = min(self.least.get(phase, total), total - free)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._done.set()
        self._thread.join()
        self.path.write_text(json.dumps({"most": self.most, "least": self.least}))
