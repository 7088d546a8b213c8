"""A small training run on real processes under the watchdog, one rank of which gets into trouble."""

import os
import re
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from lightning import Callback, LightningModule, Trainer
from lightning.pytorch.strategies import Strategy
from transformers import Qwen3Config, Qwen3ForCausalLM

from asym_lightning.learner.datamodule import RolloutDataModule
from asym_lightning.learner.fsdp import FSDP2
from asym_lightning.learner.optimizer import OptimizerSettings
from asym_lightning.learner.policy import PolicyModule
from asym_lightning.learner.zero import DeepSpeed
from asym_lightning.runtime.watch.phases import mark
from callbacks.watchdog import Watchdog
from tests.support.fits import NoTask
from tests.support.parts import algorithm, random_groups
from tests.support.preloaded import Process
from tests.support.ranks import free_port, rank_environment

LIMIT_S = 1.5
FAR_S = 100.0  # until a test gives up
SHAPE = {"hidden_size": 32, "num_hidden_layers": 1, "intermediate_size": 64, "num_attention_heads": 4, "num_key_value_heads": 2}


class Given(Callback):
    """Hands ready-made groups to the data module, each rank its share."""

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        trainer.datamodule.put(random_groups(4, 4, 40)[trainer.global_rank :: trainer.world_size])  # type: ignore[attr-defined]


class Trouble(Callback):
    """In the second iteration, as learning begins, one rank does ``what``."""

    def __init__(self, rank: int, what: Callable[[], None]) -> None:
        self.rank, self.what = rank, what

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        if trainer.current_epoch == 1 and trainer.global_rank == self.rank:
            time.sleep(0.6)  # until all ranks have told where they are
            self.what()


class Slow(Callback):
    """The second rank is slow in ways in which it may be: at the start, with signs of progress, and at the end."""

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        until = time.monotonic() + 2 * LIMIT_S
        while trainer.global_rank == 1 and time.monotonic() < until:
            time.sleep(0.1)
            if trainer.current_epoch == 1:
                mark()

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        time.sleep(trainer.global_rank)


def fail() -> None:
    raise ValueError("boom")


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def stall() -> None:
    while True:
        time.sleep(0.1)


def freeze() -> None:
    """Python's lock is held: no thread of this process comes on."""
    re.match("(a+)+$", "a" * 60 + "b")


def interrupt() -> None:
    raise KeyboardInterrupt


MADE: dict[str, Callable[[], Strategy]] = {"fsdp2": FSDP2, "deepspeed": lambda: DeepSpeed(3)}
TROUBLES: dict[str, Callback] = {
    f"{what.__name__}-{rank}": Trouble(rank, what) for what in (fail, die, stall, freeze, interrupt) for rank in (0, 1)
}


def outcome(folder: Path, trouble: str, strategy: str = "ddp", world: int = 2) -> list[tuple[int, str]]:
    """Exit status and output of every rank of a run with this trouble (``slow``: none). What the watchdog notes is in ``folder/note``."""
    given = (world, free_port(), folder, trouble, strategy)
    ranks = [Process(_rank, rank, *given, output=folder / f"{rank}.txt") for rank in range(world)]
    until = time.monotonic() + FAR_S
    return [(rank.wait(max(0.0, until - time.monotonic())), rank.output) for rank in ranks]


def _rank(rank: int, world: int, port: int, folder: Path, trouble: str, strategy: str) -> None:
    os.environ.update(rank_environment(rank, world, port))
    torch.set_num_threads(1)
    torch.manual_seed(0)
    method = algorithm()
    model = Qwen3ForCausalLM(Qwen3Config(vocab_size=40, head_dim=8, tie_word_embeddings=True, **SHAPE))  # type: ignore[arg-type]
    policy = PolicyModule(model, method, OptimizerSettings(1e-3), 1.0, float("inf"))
    data = RolloutDataModule(NoTask(), None, 4, 4, 10_000, 0, method.rules, 8, policy.packed)  # type: ignore[arg-type]

    def note(text: str) -> None:
        (folder / "note").write_text(text)

    trainer = Trainer(
        accelerator="cpu",
        devices=world,
        strategy=MADE[strategy]() if strategy in MADE else strategy if world > 1 else "auto",
        max_epochs=2,
        callbacks=[Watchdog(LIMIT_S, note), Given(), Slow() if trouble == "slow" else TROUBLES[trouble]],
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(policy, data)
    if world > 1:
        torch.distributed.barrier()  # left alone, gloo's threads now and then abort the exit of a process
        torch.distributed.destroy_process_group()
