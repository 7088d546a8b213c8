"""One optimizer step is the same however it is cut into micro-batches and spread over processes."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning import Callback, LightningModule, Trainer
from transformers import Qwen3Config, Qwen3ForCausalLM

from asym_lightning.algorithms import Algorithm, EntropyBonus, PPOClip, SequenceMeanTokenMean, SequenceSumOverConstant, TokenMean
from asym_lightning.datamodule import RolloutDataModule
from asym_lightning.policy import EngineMismatchError, OptimizerSettings, PolicyModule
from asym_lightning.types import Problem, RolloutGroup
from tests.helpers import algorithm, random_groups

VOCABULARY = 40


class GivenRollouts(Callback):
    """Hands ready-made groups to the data module, each rank its share, and keeps the gradients of every step."""

    def __init__(self, groups: Sequence[RolloutGroup], folder: Path):
        self.groups, self.folder, self.steps = groups, folder, 0

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        trainer.datamodule.put(self.groups[trainer.global_rank :: trainer.world_size])  # type: ignore[attr-defined]

    def on_before_optimizer_step(self, trainer: Trainer, pl_module: LightningModule, optimizer: Any) -> None:
        if trainer.global_rank == 0:
            grads = {name: p.grad.clone() for name, p in pl_module.named_parameters() if p.grad is not None}
            torch.save(grads, self.folder / f"{self.steps}.pt")
        self.steps += 1


class NoTask:
    name = "none"
    train: Sequence[Problem] = ()
    heldout: Sequence[Problem] = ()
    notes: Sequence[str] = ()


def gradients(
    folder: Path, budget: int, devices: int = 1, mini_batches: int = 1, limit: float = float("inf"), **parts: Any
) -> list[dict[str, torch.Tensor]]:
    """Train one iteration on eight fixed groups of four; the gradients of each step before clipping."""
    folder.mkdir()
    torch.manual_seed(0)
    shape = {"hidden_size": 32, "num_hidden_layers": 2, "intermediate_size": 64, "num_attention_heads": 4, "num_key_value_heads": 2}
    model = Qwen3ForCausalLM(Qwen3Config(vocab_size=VOCABULARY, head_dim=8, tie_word_embeddings=True, **shape))  # type: ignore[arg-type]
    method: Algorithm = algorithm(**parts)
    policy = PolicyModule(model, method, OptimizerSettings(1e-3, max_grad_norm=1e9), 1.0, limit)
    data = RolloutDataModule(NoTask(), None, 8, 8 // mini_batches, budget, seed=0)  # type: ignore[arg-type]
    trainer = Trainer(
        accelerator="cpu",
        devices=devices,
        strategy="ddp_spawn" if devices > 1 else "auto",
        max_epochs=1,
        callbacks=[GivenRollouts(random_groups(8, 4, VOCABULARY), folder)],
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(policy, data)
    return [torch.load(folder / f"{i}.pt") for i in range(mini_batches)]


def assert_same(got: list[dict[str, torch.Tensor]], want: list[dict[str, torch.Tensor]]) -> None:
    assert len(got) == len(want)
    for step_got, step_want in zip(got, want, strict=True):
        assert step_got.keys() == step_want.keys()
        a, b = (torch.cat([g.flatten() for g in step.values()]) for step in (step_got, step_want))
        assert b.norm() > 0
        assert (a - b).norm() / b.norm() < 1e-5


AGGREGATIONS = {"token": TokenMean(), "sequence": SequenceMeanTokenMean(), "constant": SequenceSumOverConstant(16)}


@pytest.mark.parametrize("aggregation", AGGREGATIONS)
def test_gradient_is_the_same_for_one_and_for_many_micro_batches(aggregation: str, tmp_path: Path) -> None:
    parts = {"aggregation": AGGREGATIONS[aggregation], "modulation": [EntropyBonus(0.1)]}
    whole = gradients(tmp_path / "1", 10_000, **parts)
    assert_same(gradients(tmp_path / "7", 40, **parts), whole)


def test_gradient_is_the_same_for_one_and_for_two_processes(tmp_path: Path) -> None:
    parts = {"modulation": [EntropyBonus(0.1)]}
    whole = gradients(tmp_path / "1", 10_000, **parts)
    assert_same(gradients(tmp_path / "2", 45, devices=2, **parts), whole)


def test_off_policy_steps_are_the_same_for_two_processes(tmp_path: Path) -> None:
    whole = gradients(tmp_path / "1", 10_000, mini_batches=2)
    assert_same(gradients(tmp_path / "2", 45, devices=2, mini_batches=2), whole)


def test_first_off_policy_step_is_the_on_policy_step(tmp_path: Path) -> None:
    one = gradients(tmp_path / "clip", 10_000, mini_batches=2, loss=PPOClip())
    wide = gradients(tmp_path / "wide", 10_000, mini_batches=2, loss=PPOClip(clip_low=0.9, clip_high=9.0))
    assert_same(one[:1], wide[:1])


@pytest.mark.parametrize("mini_batches", [1, 2])
def test_an_engine_with_other_log_probs_stops_the_run_before_the_first_update(mini_batches: int, tmp_path: Path) -> None:
    with pytest.raises(EngineMismatchError, match="logprob_gap_limit"):
        gradients(tmp_path / "run", 10_000, mini_batches=mini_batches, limit=1e-4)
    assert not list((tmp_path / "run").glob("*.pt"))
