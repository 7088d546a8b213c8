"""Tiny random models of several families for the learner."""

from typing import Any

import torch
from transformers import (
    LlamaConfig,
    LlamaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    Qwen2Config,
    Qwen2ForCausalLM,
    Qwen3Config,
    Qwen3ForCausalLM,
)

from asym_lightning.learner.optimizer import OptimizerSettings
from asym_lightning.learner.policy import PolicyModule
from tests.support.parts import algorithm

VOCABULARY = 40
COMMON = {
    "vocab_size": VOCABULARY,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "intermediate_size": 64,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 128,
}
MODELS: dict[str, tuple[Any, Any, dict[str, Any]]] = {
    "qwen2": (Qwen2Config, Qwen2ForCausalLM, {"tie_word_embeddings": True}),
    "qwen3": (Qwen3Config, Qwen3ForCausalLM, {"tie_word_embeddings": True, "head_dim": 8}),
    "llama": (LlamaConfig, LlamaForCausalLM, {"tie_word_embeddings": False}),
    "sliding window": (MistralConfig, MistralForCausalLM, {"sliding_window": 3}),
}


def build(name: str) -> Any:
    """A random model of a family, with seed 0."""
    config, model, extra = MODELS[name]
    torch.manual_seed(0)
    return model(config(**COMMON, **extra))


def policy_of(model: Any, **options: Any) -> PolicyModule:
    return PolicyModule(model, algorithm(), OptimizerSettings(1e-3), 1.0, 1e-4, **options)
