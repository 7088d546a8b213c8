"""Three updates on fixed rollouts with each strategy, on two ranks, and their results."""

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from torch.distributed.tensor import DTensor
from transformers import Qwen3Config, Qwen3ForCausalLM

from asym_lightning.learner.adapters import add_adapters
from asym_lightning.learner.datamodule import RolloutDataModule
from asym_lightning.learner.fsdp import FSDP2
from asym_lightning.learner.optimizer import OptimizerSettings
from asym_lightning.learner.policy import PolicyModule
from asym_lightning.learner.zero import DeepSpeed
from asym_lightning.types import RolloutGroup
from tests.support.parts import algorithm, random_groups
from tests.support.update_cases import CASES, COVER, DIVIDED, REST, by_deepspeed

VOCABULARY = 41  # odd, as are the layers: shards of two ranks are of different sizes
UPDATES = 3
SHARDS: dict[str, dict[str, Any]] = {
    "": {},
    "-offload": {"cpu_offload": True},
    "-once": {"reduce_each": "mini_batch"},
}


def without_gradient(module: torch.nn.Module, inputs: Any, out: torch.Tensor) -> None:
    """Make the gradient through ``out`` NaN."""
    if out.requires_grad:
        out.register_hook(lambda gradient: gradient * float("nan"))


def is_shard(tensor: torch.Tensor) -> bool:
    """Whether a tensor is a shard of FSDP2's, or ZeRO's empty place of one."""
    return isinstance(tensor, DTensor) or (hasattr(tensor, "ds_id") and not tensor.numel())


class Given(Callback):
    """Hands ready-made groups to the data module, each rank its own, and measures the training."""

    def __init__(self, groups: Sequence[RolloutGroup]):
        self.groups = groups
        self.norms: list[float] = []

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        assert isinstance(pl_module, PolicyModule)
        self.start = {name: tensor.clone() for name, tensor in pl_module.weights()}

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        groups = self.groups[trainer.global_rank :: trainer.world_size]
        trainer.datamodule.load_rollouts(groups)  # type: ignore[attr-defined]

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        assert isinstance(pl_module, PolicyModule)

        def reduce(value: torch.Tensor, how: Any) -> Any:
            return trainer.strategy.reduce(value, reduce_op=how)

        metrics = pl_module.meter.compute(reduce, pl_module.device)
        self.norms.append(metrics["optimizer/grad_norm"])

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        assert isinstance(pl_module, PolicyModule)
        held = list(pl_module.parameters())
        held += [p.grad for p in pl_module.parameters() if p.grad is not None]
        for states in trainer.optimizers[0].state.values():
            held += [value for name, value in states.items() if name != "step"]
        self.shards = sum(is_shard(tensor) for tensor in held)
        local = [tensor.to_local() if isinstance(tensor, DTensor) else tensor for tensor in held]
        self.bytes = sum(tensor.nbytes for tensor in local)
        self.weights = {name: tensor.clone() for name, tensor in pl_module.weights()}
        changes = [(self.weights[name] - tensor).abs() for name, tensor in self.start.items()]
        self.moved = max(float(change.max()) for change in changes)


def updated(
    case: str,
    strategy: Any,
    budget: int,
    *,
    epochs: int = 1,
    resume: Path | None = None,
    keep: Path | None = None,
    devices: int = 2,
    spoilt: bool = False,
) -> dict[str, Any]:
    """Train on fixed rollouts, three updates per epoch, and return the callback's measurements.

    Args:
        resume: a checkpoint to go on from.
        keep: a folder for the checkpoints of all epochs.
        spoilt: make the gradient of one layer NaN.

    Returns:
        The weights, the gradient norm of each epoch, the number of shards, the bytes that a rank
        holds, and the largest change of a weight.
    """
    settings = (CASES | DIVIDED)[case]
    torch.manual_seed(0)
    model = build_model(settings)
    if spoilt:
        model.get_decoder().norm.register_forward_hook(without_gradient)
    method = algorithm(**settings.get("parts", {}))
    # Every step is clipped.
    optimizer = OptimizerSettings(1e-3, weight_decay=0.01, max_grad_norm=0.05)
    policy = PolicyModule(
        model,
        method,
        optimizer,
        temperature=1.0,
        logprob_gap_limit=float("inf"),
        gradient_checkpointing=settings.get("checkpointing", False),
    )
    data = RolloutDataModule(
        (),
        None,
        12,
        prompts_per_mini_batch=12 // UPDATES,
        tokens_per_micro_batch=budget,
        seed=0,
        rules=method.rules,
        max_tokens=8,
        share_prompts=policy.packed,
    )
    watch = Given(settings.get("groups", list)(random_groups(12, 4, VOCABULARY)))
    callbacks: list[Callback] = [watch]
    if keep:
        every_epoch = {"save_top_k": -1, "save_on_train_epoch_end": True}
        callbacks.append(ModelCheckpoint(keep, filename="{epoch}", **every_epoch))
    trainer = Trainer(
        accelerator="cpu",
        devices=devices,
        strategy=strategy,
        max_epochs=epochs,
        callbacks=callbacks,
        logger=False,
        enable_checkpointing=bool(keep),
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(policy, data, ckpt_path=str(resume) if resume else None, weights_only=True)
    return {name: getattr(watch, name) for name in ("weights", "norms", "shards", "bytes", "moved")}


def build_model(settings: dict[str, Any]) -> Any:
    """A random model with the family, width, tied weights and adapters of a case."""
    shape = {
        "hidden_size": 32,
        "num_hidden_layers": 3,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "intermediate_size": settings.get("width", 63),
        "head_dim": 8,
        "vocab_size": VOCABULARY,
    }
    make_config, make = settings.get("family", (Qwen3Config, Qwen3ForCausalLM))
    model = make(make_config(tie_word_embeddings=settings.get("tied", True), **shape))
    if "lora" in settings:
        add_adapters(model, settings["lora"])
    return model


def zero(stage: int, **settings: Any) -> DeepSpeed:
    """ZeRO that shards the smallest weights too, which DeepSpeed would leave unsharded."""
    strategy = DeepSpeed(stage, **settings)
    config: Any = strategy.config
    config["zero_optimization"]["stage3_param_persistence_threshold"] = 0
    return strategy


def strategy_of(name: str) -> Any:
    if name.startswith("zero"):
        return zero(int(name[4]), cpu_offload=name.endswith("offload"))
    return "ddp" if name == "ddp" else FSDP2(**SHARDS[name.removeprefix("fsdp2")])


def update_all(combinations: Sequence[tuple[str, str, int]], folder: Path) -> None:
    """Train two ranks with each case, strategy and budget, and save the results in ``folder``."""
    for case, name, budget in combinations:
        keep_result(updated(case, strategy_of(name), budget), folder / f"{case}-{name}-{budget}.pt")


def on_each_rank(folder: Path) -> None:
    update_all([combination for combination in COVER if not by_deepspeed(combination)], folder)
    for case in DIVIDED:
        update_divided(case, 40, folder)
    keep_result(updated("untied", FSDP2(param_dtype="bfloat16"), 40), folder / "bf16.pt")
    keep_result(
        updated("tied", FSDP2(), 40, epochs=2, keep=folder / "kept"), folder / "uninterrupted.pt"
    )
    not_finite = r"the gradient is not finite .* the weights are unchanged"
    for strategy in ("ddp", FSDP2()):
        with pytest.raises(FloatingPointError, match=not_finite):
            updated("tied", strategy, 40, spoilt=True)
    for name in ("kept", "plain"):
        resumed = updated("tied", FSDP2(), 40, epochs=2, resume=folder / name / "epoch=0.ckpt")
        keep_result(resumed, folder / f"resumed-{name}.pt")


def update_divided(case: str, budget: int, folder: Path) -> None:
    result = updated(case, FSDP2(tensor_parallel_size=2), budget)
    keep_result(result, folder / f"{case}-{budget}.pt")


def on_each_rank_by_deepspeed(folder: Path) -> None:
    """Train with DeepSpeed in separate processes: it keeps settings in each."""
    warnings.filterwarnings("ignore", message=r".torch.distributed.\w+. is deprecated")
    update_all([combination for combination in COVER if by_deepspeed(combination)], folder)
    update_stage(3, folder)


def update_stage(stage: int, folder: Path) -> None:
    """Train with one stage of ZeRO: weights in bf16, a resumed run, a gradient that is NaN."""
    name = f"zero{stage}"
    low_precision = updated("untied", zero(stage, param_dtype="bfloat16"), 40)
    keep_result(low_precision, folder / f"{name}-bf16.pt")
    uninterrupted = updated("tied", zero(stage), 40, epochs=2, keep=folder / name)
    keep_result(uninterrupted, folder / f"{name}-uninterrupted.pt")
    resumed = updated("tied", zero(stage), 40, epochs=2, resume=folder / name / "epoch=0.ckpt")
    keep_result(resumed, folder / f"{name}-resumed.pt")
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
