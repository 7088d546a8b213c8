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
from asym_lightning.types import RolloutGroup
from tests.support.parts import algorithm, random_groups
from tests.support.ranks import pair, within_pair

VOCABULARY = 40


class GivenRollouts(Callback):
    """Hands ready-made groups to the data module, each rank its own, and saves the gradients."""

    def __init__(self, groups: Sequence[RolloutGroup], folder: Path):
        self.groups, self.folder, self.steps = groups, folder, 0

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        rank, world = trainer.global_rank, trainer.world_size
        more = []
        if pl_module.algorithm.rules.resample:
            more.append(random_groups(4, 4, VOCABULARY, seed=1)[rank::world])
        data: Any = trainer.datamodule  # type: ignore[attr-defined]
        data.load_rollouts(self.groups[rank::world], more)

    def on_before_optimizer_step(
        self, trainer: Trainer, pl_module: LightningModule, optimizer: Any
    ) -> None:
        if trainer.global_rank == 0:
            grads = {}
            for name, parameter in pl_module.named_parameters():
                if parameter.grad is not None:
                    grads[name] = parameter.grad.clone()
            torch.save(grads, self.folder / f"{self.steps}.pt")
        self.steps += 1


def build_model() -> Any:
    torch.manual_seed(0)
    shape: dict[str, Any] = {
        "hidden_size": 32,
        "num_hidden_layers": 2,
        "intermediate_size": 64,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 8,
        "vocab_size": VOCABULARY,
    }
    return Qwen3ForCausalLM(Qwen3Config(tie_word_embeddings=True, **shape))


def data_module(
    budget: int, mini_batches: int, rules: RolloutRules, *, share_prompts: bool
) -> RolloutDataModule:
    tokenizer: Any = None
    return RolloutDataModule(
        (),
        tokenizer,
        8,
        prompts_per_mini_batch=8 // mini_batches,
        tokens_per_micro_batch=budget,
        seed=0,
        rules=rules,
        max_tokens=8,
        share_prompts=share_prompts,
    )


def gradients(
    folder: Path,
    budget: int,
    devices: int = 1,
    *,
    mini_batches: int = 1,
    limit: float = float("inf"),
    callbacks: Sequence[Callback] = (),
    precision: Any = "32-true",
    share_prompts: bool = True,
    groups: Sequence[RolloutGroup] | None = None,
    old_logprobs: str = "trainer",
    **parts: Any,
) -> list[dict[str, torch.Tensor]]:
    """Train one iteration on eight fixed groups of four.

    Args:
        budget: tokens per micro-batch.
        limit: the log-prob gap at which the run stops.
        groups: other rollout groups than random ones.
        parts: parts of the algorithm.

    Returns:
        The gradients of each step before clipping, by parameter; on rank 0 alone.
    """
    if devices > 1 and not within_pair():
        settings: dict[str, Any] = {
            "mini_batches": mini_batches,
            "limit": limit,
            "callbacks": callbacks,
            "precision": precision,
            "share_prompts": share_prompts,
            "groups": groups,
            "old_logprobs": old_logprobs,
        }
        return pair()(gradients, folder, budget, devices, **settings, **parts)[0]
    folder.mkdir(exist_ok=True)
    method: Algorithm = algorithm(**parts)
    policy = PolicyModule(
        build_model(),
        method,
        OptimizerSettings(1e-3, max_grad_norm=1e9),
        temperature=1.0,
        logprob_gap_limit=limit,
        old_logprobs=old_logprobs,
    )
    data = data_module(budget, mini_batches, method.rules, share_prompts=share_prompts)
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
    if trainer.global_rank:
        return []
    return [torch.load(folder / f"{step}.pt") for step in range(mini_batches)]


def assert_same(got: list[dict[str, torch.Tensor]], want: list[dict[str, torch.Tensor]]) -> None:
    """Check that the gradients of every step agree to a relative error of 1e-5 in the 2-norm."""
    assert len(got) == len(want)
    for step_got, step_want in zip(got, want, strict=True):
        assert step_got.keys() == step_want.keys()
        a, b = (torch.cat([g.flatten() for g in step.values()]) for step in (step_got, step_want))
        assert b.norm() > 0
        assert (a - b).norm() / b.norm() < 1e-5


# Parts of an algorithm that look at the full mini-batch.
WHOLE_BATCH: dict[str, dict[str, Any]] = {
    "whitened": {"advantage": Whitened()},
    "a_grae": {"advantage": AGRAE(), "equal_scale": True},
    "clip_cov": {"modulation": [ClipCov(0.3, 0.0, 1e3)]},
    "kl_cov": {"modulation": [KLCov(1.0, 0.2)], "loss": Ratio()},
    "top_entropy": {"modulation": [TopEntropy(0.3)]},
    "siren": {"modulation": [SIREN(0.5)]},
    "kl_in_loss": {"modulation": [ReferenceKL(0.5)]},
    "kl_in_reward": {
        "advantage": GroupStandardized(),
        "modulation": [ReferenceKL(0.5, "k1", "reward")],
    },
    "masked": {
        "rules": RolloutRules(mask_truncated=True, overlong_share=0.5),
        "advantage": GroupStandardized(),
    },
    "gspo": {"loss": GSPO(), "aggregation": SequenceMeanTokenMean()},
}
