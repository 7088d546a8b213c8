"""Sizes of the same work, and the best settings of either side on two CPU cores."""

from dataclasses import dataclass, field, replace
from typing import Any


@dataclass(frozen=True)
class Shape:
    """A random Qwen3 with tied embeddings, in the proportions of the smallest real one.

    The MLP has three times the width, query heads twice the width and key heads the width;
    ``attention`` gives the query and key heads of other proportions.
    """

    vocabulary: int
    hidden: int
    layers: int
    head_dim: int
    context: int = 4096
    seed: int = 0
    version: int = 2
    attention: tuple[int, int] | None = None

    @property
    def intermediate(self) -> int:
        return 3 * self.hidden

    @property
    def heads(self) -> int:
        return self.attention[0] if self.attention else 2 * self.hidden // self.head_dim

    @property
    def kv_heads(self) -> int:
        return self.attention[1] if self.attention else self.hidden // self.head_dim


@dataclass(frozen=True)
class Size:
    """Work of one training step.

    Attributes:
        shape: the random model; none is the embedded policy on its own task.
        mean_tokens: mean length of a completion, after the cut at ``max_tokens``; of the random
            models only.
        prompt_tokens: shortest and longest prompt taken.
        trl: settings of TRL's trainer, by names of ``GRPOConfig``; those of one of ``TRL_SIDES``
            are put on top.
        ours: overrides of ``train.py``.
    """

    shape: Shape | None
    prompts: int
    max_tokens: int
    mean_tokens: float = 0.0
    prompt_tokens: tuple[int, int] = (1, 1 << 30)
    group: int = 8
    precision: str = "bf16"
    trl: dict[str, Any] = field(default_factory=dict)
    ours: tuple[str, ...] = ()

    @property
    def rollouts(self) -> int:
        return self.prompts * self.group

    def scaled(self, prompts: int | None, max_tokens: int | None) -> "Size":
        """The same size with another number of prompts a step or another cut.

        TRL's batch is at most that of its rollouts.
        """
        given = replace(
            self, prompts=prompts or self.prompts, max_tokens=max_tokens or self.max_tokens
        )
        batch = min(self.trl["per_device_train_batch_size"], given.rollouts)
        return replace(given, trl={**self.trl, "per_device_train_batch_size": batch})


SIZES = {
    "small": Size(
        None,
        prompts=32,
        max_tokens=16,
        precision="fp32",
        trl={"per_device_train_batch_size": 256},
        ours=("policy.tokens_per_micro_batch=4096",),
    ),
    "medium": Size(
        Shape(vocabulary=32_000, hidden=384, layers=6, head_dim=128),
        prompts=4,
        max_tokens=512,
        mean_tokens=135,
        prompt_tokens=(24, 128),
        trl={"per_device_train_batch_size": 8, "steps_per_generation": 1},
        ours=("policy.tokens_per_micro_batch=4096",),
    ),
    "large": Size(
        Shape(vocabulary=151_936, hidden=320, layers=7, head_dim=64),
        prompts=2,
        max_tokens=512,
        mean_tokens=135,
        prompt_tokens=(24, 128),
        trl={"per_device_train_batch_size": 8, "steps_per_generation": 1},
        ours=("policy.tokens_per_micro_batch=4096",),
    ),
    "1.7B": Size(  # the shape of Qwen3-1.7B, for a GPU
        Shape(vocabulary=151_936, hidden=2048, layers=28, head_dim=128, attention=(16, 8)),
        prompts=32,
        max_tokens=1024,
        mean_tokens=400,
        prompt_tokens=(24, 256),
        trl={"per_device_train_batch_size": 8, "steps_per_generation": 1},
    ),
}

# TRL's vLLM mode, which fails on CPUs without ``onednn: False``. Several generations of few
# rollouts cost it more.
REPAIRED: dict[str, Any] = {
    "use_vllm": True,
    "onednn": False,
    "steps_per_generation": None,
}
PAGED: dict[str, Any] = {
    # Under bf16 it turns the trained weights themselves into bf16.
    "use_transformers_continuous_batching": True,
    "transformers_continuous_batching_config": {"max_memory_percent": 0.1},
}
# Ways of TRL to make completions. Ours is compared with the first; the others stand beside it.
TRL_SIDES: dict[str, dict[str, Any]] = {
    "generate": {},
    "continuous batching": PAGED,
    "vLLM repaired": REPAIRED,
}

# Tried by --tune, each on top of the size's own settings: name, what is changed.
TRL_TRIES: dict[str, dict[str, Any]] = {
    "as chosen": {},  # at the two larger sizes 8 rollouts a batch and a generation for each batch
    "8 a batch, one generation": {"per_device_train_batch_size": 8, "steps_per_generation": None},
    "16 a batch, one generation": {"per_device_train_batch_size": 16, "steps_per_generation": None},
    "16 a batch, a generation each": {"per_device_train_batch_size": 16, "steps_per_generation": 1},
    "fp32": {"bf16": False},
    "bf16 weights, no fp32 ones": {"model_init_kwargs": {"dtype": "bfloat16"}},
    "head in fp32": {"cast_lm_head_to_fp32": True},
    "static cache": {"cache_implementation": "static"},
    "continuous batching": PAGED,
    "continuous batching, one generation": {**PAGED, "steps_per_generation": None},
    "continuous batching, fp32": {**PAGED, "bf16": False},
    "vLLM": {"use_vllm": True},
    "vLLM, its oneDNN path taken out": REPAIRED,
    "the same, a generation each": {**REPAIRED, "steps_per_generation": 1},
    "liger": {"use_liger_kernel": True},
    "torch.compile": {"torch_compile": True},
    "gradient checkpointing": {"gradient_checkpointing": True},
}
OUR_TRIES: dict[str, tuple[str, ...]] = {
    "as chosen": (),
    "1024 tokens a micro-batch": ("policy.tokens_per_micro_batch=1024",),
    "2048 tokens a micro-batch": ("policy.tokens_per_micro_batch=2048",),
    "8192 tokens a micro-batch": ("policy.tokens_per_micro_batch=8192",),
    "fp32": ("trainer.precision=32-true",),
    "gradient checkpointing": ("policy.gradient_checkpointing=true",),
    "transformers' generate": ("rollout=transformers",),
}
