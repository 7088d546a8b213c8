"""A small training run on real processes under the watchdog, with trouble on one rank."""

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
from tests.support.parts import algorithm, random_groups
from tests.support.preloaded import Process
from tests.support.ranks import free_port, rank_environment

LIMIT_S = 1.5
FAR_S = 100.0  # until a test gives up
SHAPE: dict[str, Any] = {
    "hidden_size": 32,
    "num_hidden_layers": 1,
    "intermediate_size": 64,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
}


class Given(Callback):
    """Hands ready-made groups to the data module, each rank its own."""

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        groups = random_groups(4, 4, 40)[trainer.global_rank :: trainer.world_size]
        trainer.datamodule.load_rollouts(groups)  # type: ignore[attr-defined]


class Trouble(Callback):
    """Makes one rank call ``what`` in the second iteration, as learning begins."""

    def __init__(self, rank: int, what: Callable[[], None]) -> None:
        self.rank, self.what = rank, what

    def on_train_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int
    ) -> None:
        if trainer.current_epoch == 1 and trainer.global_rank == self.rank:
            time.sleep(0.6)  # until all ranks have said where they are
            self.what()


class Slow(Callback):
    """Makes the second rank slow where it may be: at the start, with progress, and at the end."""

    def on_train_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int
    ) -> None:
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
    """Hold Python's lock, so that no other thread of this process runs."""
    re.match("(a+)+$", "a" * 60 + "b")


def interrupt() -> None:
    raise KeyboardInterrupt


STRATEGIES: dict[str, Callable[[], Strategy]] = {
    "fsdp2": FSDP2,
    "deepspeed": lambda: DeepSpeed(3),
}
TROUBLES: dict[str, Callback] = {"slow": Slow()}
for _what in (fail, die, stall, freeze, interrupt):
    TROUBLES |= {f"{_what.__name__}-{rank}": Trouble(rank, _what) for rank in (0, 1)}


def outcome(
    folder: Path, trouble: str, strategy: str = "ddp", world: int = 2
) -> list[tuple[int, str]]:
    """The exit status and output of every rank of a run with this trouble.

    The watchdog's note is in ``folder / "note"``.
    """
    arguments = (world, free_port(), folder, trouble, strategy)
    ranks = []
    for rank in range(world):
        ranks.append(Process(_rank, rank, *arguments, output=folder / f"{rank}.txt"))
    until = time.monotonic() + FAR_S
    return [(rank.wait(max(0.0, until - time.monotonic())), rank.output) for rank in ranks]


def _rank(rank: int, world: int, port: int, folder: Path, trouble: str, strategy: str) -> None:
    os.environ.update(rank_environment(rank, world, port))
    torch.set_num_threads(1)
    torch.manual_seed(0)
    method = algorithm()
    config: Any = Qwen3Config(vocab_size=40, head_dim=8, tie_word_embeddings=True, **SHAPE)
    policy = PolicyModule(
        Qwen3ForCausalLM(config),
        method,
        OptimizerSettings(1e-3),
        temperature=1.0,
        logprob_gap_limit=float("inf"),
    )
    data = RolloutDataModule(
        (),
        None,  # type: ignore[arg-type]
        4,
        prompts_per_mini_batch=4,
        tokens_per_micro_batch=10_000,
        seed=0,
        rules=method.rules,
        max_tokens=8,
        share_prompts=policy.packed,
    )

    def note(text: str) -> None:
        (folder / "note").write_text(text)

    watchdog = Watchdog(LIMIT_S)
    watchdog.note = note
    chosen: Any = STRATEGIES[strategy]() if strategy in STRATEGIES else strategy
    trainer = Trainer(
        accelerator="cpu",
        devices=world,
        strategy=chosen if world > 1 else "auto",
        max_epochs=2,
        callbacks=[watchdog, Given(), TROUBLES[trouble]],
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(policy, data)
    if world > 1:
        # Without this, gloo's threads now and then abort the exit of a process.
        torch.distributed.barrier()
        torch.distributed.destroy_process_group()
