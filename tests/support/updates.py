"""Three updates on fixed rollouts, with each strategy, on two ranks; what they end with."""

import warnings
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from torch.distributed.tensor import DTensor
from transformers import Qwen2Config, Qwen2ForCausalLM, Qwen3Config, Qwen3ForCausalLM

from asym_lightning.algorithms import EntropyBonus, GroupStandardized, RolloutRules
from asym_lightning.algorithms.corrections import Mask
from asym_lightning.algorithms.reference import ReferenceKL
from asym_lightning.algorithms.selective import ClipCov, TopEntropy
from asym_lightning.learner.adapters import LoRASettings, add_adapters
from asym_lightning.learner.datamodule import RolloutDataModule
from asym_lightning.learner.fsdp import FSDP2
from asym_lightning.learner.optimizer import OptimizerSettings
from asym_lightning.learner.policy import PolicyModule
from asym_lightning.learner.zero import DeepSpeed
from asym_lightning.types import RolloutGroup, Verdict
from tests.support.fits import NoTask
from tests.support.parts import algorithm, random_groups

VOCABULARY = 41  # odd, as are the layers: shards of two ranks are of different sizes


UPDATES = 3


def silent(groups: Sequence[RolloutGroup]) -> list[RolloutGroup]:
    """Every other group, that is all groups of the second of two ranks, without a signal: all of its rollouts are wrong."""
    wrong = [replace(group, verdicts=[Verdict(0.0, v.kind) for v in group.verdicts]) for group in groups]
    return [wrong[i] if i % 2 else group for i, group in enumerate(groups)]


def cut(groups: Sequence[RolloutGroup]) -> list[RolloutGroup]:
    """Every other group cut off at the limit: with mask_truncated the second of two ranks has nothing to learn from."""
    short = [replace(group, completions=[replace(c, truncated=True) for c in group.completions]) for group in groups]
    whole = [replace(group, completions=[replace(c, truncated=False) for c in group.completions]) for group in groups]
    return [short[i] if i % 2 else group for i, group in enumerate(whole)]


def without_gradient(module: torch.nn.Module, given: Any, out: torch.Tensor) -> None:
    """What comes back through ``out`` is no number."""
    if out.requires_grad:
        out.register_hook(lambda gradient: gradient * float("nan"))


CASES: dict[str, dict[str, Any]] = {
    "tied": {"parts": {"modulation": [EntropyBonus(0.1)]}},
    "untied": {"tied": False, "parts": {"correction": Mask(0.5, 1.5, "sequence")}, "checkpointing": True},
    "silent": {"groups": silent, "parts": {"advantage": GroupStandardized(), "modulation": [ReferenceKL(0.5)]}},
    "idle": {"groups": silent, "parts": {"advantage": GroupStandardized()}},  # its micro-batches without an advantage are dropped
    "lora": {"lora": LoRASettings(4, 8.0), "tied": False, "parts": {"modulation": [ReferenceKL(0.5)]}},
    "cut": {"groups": cut, "tied": False, "parts": {"rules": RolloutRules(mask_truncated=True), "modulation": [TopEntropy(0.3)]}},
}


DIVIDED: dict[str, dict[str, Any]] = {  # for layers that two ranks compute together
    "together": {**CASES["silent"], "width": 64},
    "together-cut": {**CASES["cut"], "width": 64},
    "together-planned": {"width": 64, "parts": {"modulation": [ClipCov(0.3, 0.0, 1e3)]}},  # chooses at random among the tokens of all
    "together-biases": {"width": 64, "family": (Qwen2Config, Qwen2ForCausalLM), "checkpointing": True},
}


SHARDS: dict[str, dict[str, Any]] = {"": {}, "-offload": {"cpu_offload": True}, "-once": {"reduce_each": "mini_batch"}}


class Given(Callback):
    """Hands ready-made groups to the data module, each rank its share, and keeps the policy when training ends."""

    def __init__(self, groups: Sequence[RolloutGroup]):
        self.groups = groups
        self.norms: list[float] = []

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        assert isinstance(pl_module, PolicyModule)
        self.start = {name: tensor.clone() for name, tensor in pl_module.weights()}

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        trainer.datamodule.put(self.groups[trainer.global_rank :: trainer.world_size])  # type: ignore[attr-defined]

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        assert isinstance(pl_module, PolicyModule)
        metrics = pl_module.meter.compute(lambda x, how: trainer.strategy.reduce(x, reduce_op=how), pl_module.device)  # type: ignore[arg-type, return-value]
        self.norms.append(metrics["optimizer/grad_norm"])

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        assert isinstance(pl_module, PolicyModule)
        state = [value for states in trainer.optimizers[0].state.values() for name, value in states.items() if name != "step"]
        held = [*pl_module.parameters(), *(p.grad for p in pl_module.parameters() if p.grad is not None), *state]
        self.shards = sum(isinstance(tensor, DTensor) or (hasattr(tensor, "ds_id") and not tensor.numel()) for tensor in held)
        self.bytes = sum((tensor.to_local() if isinstance(tensor, DTensor) else tensor).nbytes for tensor in held)
        self.weights = {name: tensor.clone() for name, tensor in pl_module.weights()}
        self.moved = max(float((self.weights[name] - tensor).abs().max()) for name, tensor in self.start.items())


def updated(
    case: str,
    strategy: Any,
    budget: int,
    epochs: int = 1,
    resume: Path | None = None,
    keep: Path | None = None,
    devices: int = 2,
    spoilt: bool = False,
) -> dict[str, Any]:
    """Train on fixed rollouts, three updates per epoch; weights and gradient norms afterwards.

    Args:
        resume: a checkpoint to go on from.
        keep: a folder for the checkpoints of all epochs.
        spoilt: one gradient is not finite.
    """
    given = (CASES | DIVIDED)[case]
    torch.manual_seed(0)
    shape = {"hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 4, "num_key_value_heads": 2}
    shape |= {"intermediate_size": given.get("width", 63), "head_dim": 8, "vocab_size": VOCABULARY}
    make_config, make = given.get("family", (Qwen3Config, Qwen3ForCausalLM))
    method = algorithm(**given.get("parts", {}))
    settings = OptimizerSettings(1e-3, weight_decay=0.01, max_grad_norm=0.05)  # every step is clipped
    model = make(make_config(tie_word_embeddings=given.get("tied", True), **shape))
    if "lora" in given:
        add_adapters(model, given["lora"])
    if spoilt:
        model.get_decoder().norm.register_forward_hook(without_gradient)
    policy = PolicyModule(model, method, settings, 1.0, float("inf"), given.get("checkpointing", False))
    data = RolloutDataModule(NoTask(), None, 12, 12 // UPDATES, budget, 0, method.rules, 8, policy.packed)  # type: ignore[arg-type]
    watch = Given(given.get("groups", list)(random_groups(12, 4, VOCABULARY)))
    kept = [ModelCheckpoint(keep, filename="{epoch}", save_top_k=-1, save_on_train_epoch_end=True)] if keep else []
    trainer = Trainer(
        accelerator="cpu",
        devices=devices,
        strategy=strategy,
        max_epochs=epochs,
        callbacks=[watch, *kept],
        logger=False,
        enable_checkpointing=bool(keep),
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(policy, data, ckpt_path=str(resume) if resume else None, weights_only=True)
    return {"weights": watch.weights, "norms": watch.norms, "shards": watch.shards, "bytes": watch.bytes, "moved": watch.moved}


def zero(stage: int, **settings: Any) -> DeepSpeed:
    """With the smallest of weights in parts too, which DeepSpeed leaves whole."""
    strategy = DeepSpeed(stage, **settings)
    strategy.config["zero_optimization"]["stage3_param_persistence_threshold"] = 0  # type: ignore[index]
    return strategy


RUNS = [("ddp", 10_000), ("ddp", 40), ("fsdp2", 10_000), ("fsdp2-offload", 40), ("fsdp2-once", 40)]


ZERO = [("zero1", 40), ("zero2-offload", 40), ("zero3", 10_000), ("zero3-offload", 40)]


ALL = [(case, *run) for case in CASES for run in RUNS + ZERO]


COVER = [  # each case with whole policies, with shards and with ZeRO, and each strategy with a case at least
    *(("tied", *run) for run in (("ddp", 10_000), ("ddp", 40), ("fsdp2", 10_000), ("fsdp2-offload", 40), ("zero1", 40))),
    *(("untied", *run) for run in (("ddp", 40), ("fsdp2", 10_000), ("fsdp2-offload", 40), ("zero3", 10_000))),
    *(("silent", *run) for run in (("ddp", 40), ("fsdp2-once", 40), ("zero2-offload", 40))),
    *(("idle", *run) for run in (("ddp", 10_000), ("fsdp2-once", 40), ("zero3-offload", 40))),
    *(("lora", *run) for run in (("ddp", 40), ("fsdp2", 10_000), ("zero3", 10_000))),
    *(("cut", *run) for run in (("ddp", 40), ("fsdp2-offload", 40), ("zero1", 40))),
]


REST = [combination for combination in ALL if combination not in COVER]


def update_all(combinations: Sequence[tuple[str, str, int]], folder: Path) -> None:
    """A run of two ranks with each case, strategy and budget; what they end with goes into ``folder``."""
    for case, name, budget in combinations:
        keep_result(updated(case, strategy_of(name), budget), folder / f"{case}-{name}-{budget}.pt")


def strategy_of(name: str) -> Any:
    if name.startswith("zero"):
        return zero(int(name[4]), cpu_offload=name.endswith("offload"))
    return "ddp" if name == "ddp" else FSDP2(**SHARDS[name.removeprefix("fsdp2")])


def by_deepspeed(combination: tuple[str, str, int]) -> bool:
    return combination[1].startswith("zero")


def on_each_rank(folder: Path) -> None:
    update_all([combination for combination in COVER if not by_deepspeed(combination)], folder)
    for case in DIVIDED:
        update_divided(case, 40, folder)
    keep_result(updated("untied", FSDP2(param_dtype="bfloat16"), 40), folder / "bf16.pt")
    keep_result(updated("tied", FSDP2(), 40, 2, keep=folder / "kept"), folder / "uninterrupted.pt")
    for strategy in ("ddp", FSDP2()):
        with pytest.raises(FloatingPointError, match=r"the gradient is not finite .* of before this update"):
            updated("tied", strategy, 40, spoilt=True)
    for name in ("kept", "plain"):
        keep_result(updated("tied", FSDP2(), 40, 2, resume=folder / name / "epoch=0.ckpt"), folder / f"resumed-{name}.pt")


def update_divided(case: str, budget: int, folder: Path) -> None:
    keep_result(updated(case, FSDP2(tensor_parallel_size=2), budget), folder / f"{case}-{budget}.pt")


def on_each_rank_by_deepspeed(folder: Path) -> None:
    """DeepSpeed keeps settings of its own in a process."""
    warnings.filterwarnings("ignore", message=r".torch.distributed.\w+. is deprecated")
    update_all([combination for combination in COVER if by_deepspeed(combination)], folder)
    update_stage(3, folder)


def update_stage(stage: int, folder: Path) -> None:
    """Weights in bf16, a resumed run, and gradients that are not finite, with one stage of ZeRO."""
    keep_result(updated("untied", zero(stage, param_dtype="bfloat16"), 40), folder / f"zero{stage}-bf16.pt")
    name = f"zero{stage}"
    keep_result(updated("tied", zero(stage), 40, 2, keep=folder / name), folder / f"{name}-uninterrupted.pt")
    keep_result(updated("tied", zero(stage), 40, 2, resume=folder / name / "epoch=0.ckpt"), folder / f"{name}-resumed.pt")
    for dtype in (None, "bfloat16"):
        with pytest.raises(FloatingPointError, match="the gradient is not finite"):
            updated("tied", zero(stage, param_dtype=dtype), 40, spoilt=True)


def rest_on_each_rank(folder: Path) -> None:
    update_all([combination for combination in REST if not by_deepspeed(combination)], folder)
    for case in DIVIDED:
        update_divided(case, 10_000, folder)


def rest_on_each_rank_by_deepspeed(folder: Path) -> None:
    warnings.filterwarnings("ignore", message=r".torch.distributed.\w+. is deprecated")
    update_all([combination for combination in REST if by_deepspeed(combination)], folder)
    for stage in (1, 2):
        update_stage(stage, folder)


def keep_result(result: dict[str, Any], file: Path) -> None:
    if torch.distributed.get_rank() == 0:
        torch.save(result, file)
