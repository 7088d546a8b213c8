"""One iteration of training on fixed rollouts, and the gradients of its steps."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from lightning import Callback, LightningModule, Trainer
from transformers import Qwen3Config, Qwen3ForCausalLM

from asym_lightning.algorithms import (
    Algorithm,
    GroupStandardized,
    RolloutRules,
    SequenceMeanTokenMean,
)
from asym_lightning.algorithms.batchwise import AGRAE, Whitened
from asym_lightning.algorithms.reference import ReferenceKL
from asym_lightning.algorithms.selective import SIREN, ClipCov, KLCov, TopEntropy
from asym_lightning.algorithms.surrogates import GSPO, Ratio
from asym_lightning.learner.datamodule import RolloutDataModule
from asym_lightning.learner.optimizer import OptimizerSettings
from asym_lightning.learner.policy import PolicyModule
from asym_lightning.types import Problem, RolloutGroup
from tests.support.parts import algorithm, random_groups
from tests.support.ranks import pair, within_pair

VOCABULARY = 40


class GivenRollouts(Callback):
    """Hands ready-made groups to the data module, each rank its share, and keeps the gradients of every step."""

    def __init__(self, groups: Sequence[RolloutGroup], folder: Path):
        self.groups, self.folder, self.steps = groups, folder, 0

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        rank, world = trainer.global_rank, trainer.world_size
        more = [random_groups(4, 4, VOCABULARY, seed=1)[rank::world]] if pl_module.algorithm.rules.resample else []
        trainer.datamodule.put(self.groups[rank::world], more)  # type: ignore[attr-defined]

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
    folder: Path,
    budget: int,
    devices: int = 1,
    mini_batches: int = 1,
    limit: float = float("inf"),
    callbacks: Sequence[Callback] = (),
    precision: Any = "32-true",
    share_prompts: bool = True,
    groups: Sequence[RolloutGroup] | None = None,
    old_logprobs: str = "trainer",
    **parts: Any,
) -> list[dict[str, torch.Tensor]]:
    """Train one iteration on eight fixed groups of four; the gradients of each step before clipping."""
    if devices > 1 and not within_pair():
        settings: dict[str, Any] = {"callbacks": callbacks, "precision": precision, "share_prompts": share_prompts, "groups": groups}
        return pair()(gradients, folder, budget, devices, mini_batches, limit, old_logprobs=old_logprobs, **settings, **parts)[0]
    folder.mkdir(exist_ok=True)
    torch.manual_seed(0)
    shape = {"hidden_size": 32, "num_hidden_layers": 2, "intermediate_size": 64, "num_attention_heads": 4, "num_key_value_heads": 2}
    model = Qwen3ForCausalLM(Qwen3Config(vocab_size=VOCABULARY, head_dim=8, tie_word_embeddings=True, **shape))  # type: ignore[arg-type]
    method: Algorithm = algorithm(**parts)
    policy = PolicyModule(model, method, OptimizerSettings(1e-3, max_grad_norm=1e9), 1.0, limit, old_logprobs=old_logprobs)
    data = RolloutDataModule(NoTask(), None, 8, 8 // mini_batches, budget, 0, method.rules, 8, share_prompts)  # type: ignore[arg-type]
    groups = random_groups(8, 4, VOCABULARY) if groups is None else groups
    trainer = Trainer(
        accelerator="cpu",
        devices=devices,
        strategy="ddp" if devices > 1 else "auto",
        max_epochs=1,
        precision=precision,
        callbacks=[*callbacks, GivenRollouts(groups, folder)],
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(policy, data)
    return [] if trainer.global_rank else [torch.load(folder / f"{i}.pt") for i in range(mini_batches)]


def assert_same(got: list[dict[str, torch.Tensor]], want: list[dict[str, torch.Tensor]]) -> None:
    assert len(got) == len(want)
    for step_got, step_want in zip(got, want, strict=True):
        assert step_got.keys() == step_want.keys()
        a, b = (torch.cat([g.flatten() for g in step.values()]) for step in (step_got, step_want))
        assert b.norm() > 0
        assert (a - b).norm() / b.norm() < 1e-5


# parts that look at the whole mini-batch
WHOLE_BATCH: dict[str, dict[str, Any]] = {
    "whitened": {"advantage": Whitened()},
    "a_grae": {"advantage": AGRAE(), "equal_scale": True},
    "clip_cov": {"modulation": [ClipCov(0.3, 0.0, 1e3)]},
    "kl_cov": {"modulation": [KLCov(1.0, 0.2)], "loss": Ratio()},
    "top_entropy": {"modulation": [TopEntropy(0.3)]},
    "siren": {"modulation": [SIREN(0.5)]},
    "kl_in_loss": {"modulation": [ReferenceKL(0.5)]},
    "kl_in_reward": {"advantage": GroupStandardized(), "modulation": [ReferenceKL(0.5, "k1", "reward")]},
    "masked": {"rules": RolloutRules(mask_truncated=True, overlong_share=0.5), "advantage": GroupStandardized()},
    "gspo": {"loss": GSPO(), "aggregation": SequenceMeanTokenMean()},
}
