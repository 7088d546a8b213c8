"""Training cases for the comparison of strategies, and the combinations that the tests run.

A combination is (case, strategy, tokens per micro-batch).
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from transformers import Qwen2Config, Qwen2ForCausalLM

from asym_lightning.algorithms import EntropyBonus, GroupStandardized, RolloutRules
from asym_lightning.algorithms.corrections import Mask
from asym_lightning.algorithms.reference import ReferenceKL
from asym_lightning.algorithms.selective import ClipCov, TopEntropy
from asym_lightning.learner.adapters import LoRASettings
from asym_lightning.types import RolloutGroup, Verdict


def silent(groups: Sequence[RolloutGroup]) -> list[RolloutGroup]:
    """The groups, every other one without a signal: all of its rollouts are wrong.

    These are all groups of the second of two ranks.
    """
    wrong = [
        replace(group, verdicts=[Verdict(0.0, v.kind) for v in group.verdicts]) for group in groups
    ]
    return [wrong[i] if i % 2 else group for i, group in enumerate(groups)]


def cut(groups: Sequence[RolloutGroup]) -> list[RolloutGroup]:
    """The groups, every other one truncated and the others not.

    With mask_truncated the second of two ranks has nothing to learn from.
    """

    def mark(group: RolloutGroup, truncated: bool) -> RolloutGroup:
        completions = [replace(c, truncated=truncated) for c in group.completions]
        return replace(group, completions=completions)

    return [mark(group, truncated=bool(i % 2)) for i, group in enumerate(groups)]


CASES: dict[str, dict[str, Any]] = {
    "tied": {"parts": {"modulation": [EntropyBonus(0.1)]}},
    "untied": {
        "tied": False,
        "parts": {"correction": Mask(0.5, 1.5, "sequence")},
        "checkpointing": True,
    },
    "silent": {
        "groups": silent,
        "parts": {"advantage": GroupStandardized(), "modulation": [ReferenceKL(0.5)]},
    },
    # Micro-batches without an advantage are dropped.
    "idle": {"groups": silent, "parts": {"advantage": GroupStandardized()}},
    "lora": {
        "lora": LoRASettings(4, 8.0),
        "tied": False,
        "parts": {"modulation": [ReferenceKL(0.5)]},
    },
    "cut": {
        "groups": cut,
        "tied": False,
        "parts": {"rules": RolloutRules(mask_truncated=True), "modulation": [TopEntropy(0.3)]},
    },
}
# For layers that two ranks compute together.
DIVIDED: dict[str, dict[str, Any]] = {
    "together": {**CASES["silent"], "width": 64},
    "together-cut": {**CASES["cut"], "width": 64},
    # Chooses at random among the tokens of all ranks.
    "together-planned": {"width": 64, "parts": {"modulation": [ClipCov(0.3, 0.0, 1e3)]}},
    "together-biases": {
        "width": 64,
        "family": (Qwen2Config, Qwen2ForCausalLM),
        "checkpointing": True,
    },
}
RUNS = [("ddp", 10_000), ("ddp", 40), ("fsdp2", 10_000), ("fsdp2-offload", 40), ("fsdp2-once", 40)]
ZERO = [("zero1", 40), ("zero2-offload", 40), ("zero3", 10_000), ("zero3-offload", 40)]
ALL = [(case, *run) for case in CASES for run in RUNS + ZERO]
# Each case with full policies, with shards and with ZeRO; each strategy with at least one case.
COVER = [
    ("tied", "ddp", 10_000),
    ("tied", "ddp", 40),
    ("tied", "fsdp2", 10_000),
    ("tied", "fsdp2-offload", 40),
    ("tied", "zero1", 40),
    ("untied", "ddp", 40),
    ("untied", "fsdp2", 10_000),
    ("untied", "fsdp2-offload", 40),
    ("untied", "zero3", 10_000),
    ("silent", "ddp", 40),
    ("silent", "fsdp2-once", 40),
    ("silent", "zero2-offload", 40),
    ("idle", "ddp", 10_000),
    ("idle", "fsdp2-once", 40),
    ("idle", "zero3-offload", 40),
    ("lora", "ddp", 40),
    ("lora", "fsdp2", 10_000),
    ("lora", "zero3", 10_000),
    ("cut", "ddp", 40),
    ("cut", "fsdp2-offload", 40),
    ("cut", "zero1", 40),
]
REST = [combination for combination in ALL if combination not in COVER]


def by_deepspeed(combination: tuple[str, str, int]) -> bool:
    return combination[1].startswith("zero")
