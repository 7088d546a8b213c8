"""Our side's stop-watch: a callback that records the clock and the memory of each iteration.

The run's own measurements are kept beside them.
"""

import json
import time
from pathlib import Path
from typing import Any

import torch
from lightning import Callback, LightningModule, Trainer

from against.memory import HighWater
from against.weights import moved
from against.work import without_signal
from callbacks.parts import RunParts


class Clock(Callback):
    """Writes ``path`` at the end of the run.

    A step is the time from the end of one iteration to the end of the next.
    """

    def __init__(self, path: str):
        self.path, self.rows, self.memory = Path(path), [], HighWater()

    def take_parts(self, parts: RunParts) -> None:
        self.rollout = parts.rollout

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.ready = self.memory.read()
        self.last, self.busy = time.perf_counter(), time.process_time()

    def on_train_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int
    ) -> None:
        self.memory.reset()
        self.worked = time.process_time()

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        self.worked, self.learn_peak = time.process_time() - self.worked, self.memory.read()

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        now, busy = time.perf_counter(), time.process_time()
        phase = {
            key: float(value)
            for key, value in trainer.callback_metrics.items()
            if key.startswith("time/")
        }
        groups = self.rollout.groups
        lengths = [
            len(completion.token_ids) for group in groups for completion in group.completions
        ]
        rewards = [reward for group in groups for reward in group.rewards]
        self.rows.append(
            {
                "step": now - self.last,
                "generate": phase["time/sync"] + phase["time/generate"],
                "learn": phase["time/learn"] + phase.get("time/score", 0.0),
                "processor_step": busy - self.busy,
                "processor_learn": self.worked,
                "tokens": sum(lengths),
                "longest": max(lengths),
                "without_signal": without_signal(rewards, len(rewards) // len(groups)),
                "learn_peak_mib": self.learn_peak,
            }
        )
        self.last, self.busy = now, busy

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.memory.read()
        result = {
            "rows": self.rows,
            "peak_mib": self.memory.peak,
            "ready_mib": self.ready,
            "threads": torch.get_num_threads(),
        }
        model: Any = pl_module.model
        result["moved"] = moved(model.config.name_or_path, model.named_parameters())
        self.path.write_text(json.dumps(result))
