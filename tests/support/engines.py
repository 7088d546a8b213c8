"""Small random models of several families, and the log-prob gap of an engine and a policy."""

from pathlib import Path
from typing import Any

import torch
from transformers import (
    AutoModelForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
    Qwen2Config,
    Qwen2ForCausalLM,
    Qwen3Config,
    Qwen3ForCausalLM,
)

from asym_lightning.learner.embedded import byte_tokenizer
from asym_lightning.learner.optimizer import OptimizerSettings
from asym_lightning.learner.packing import pack
from asym_lightning.learner.policy import PolicyModule
from asym_lightning.rollout.base import Sample, Sampling, sampling_seed
from asym_lightning.rollout.transformers import TransformersEngine
from asym_lightning.rollout.vllm import VLLMEngine
from asym_lightning.types import Completion
from tests.support.parts import algorithm

SHAPE = {
    "vocab_size": 258,
    "hidden_size": 128,  # 4 heads of 32, the smallest that vLLM's CPU attention takes
    "num_hidden_layers": 2,
    "intermediate_size": 128,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 128,
    "eos_token_id": 257,
    "bos_token_id": None,
    "pad_token_id": 256,
}


def qwen2(**options: Any) -> Any:
    return Qwen2ForCausalLM(Qwen2Config(**SHAPE, **options))


def qwen3(**options: Any) -> Any:
    return Qwen3ForCausalLM(Qwen3Config(**SHAPE, head_dim=32, **options))


def llama(**options: Any) -> Any:
    return LlamaForCausalLM(LlamaConfig(**SHAPE, head_dim=32, **options))


FAMILIES: dict[str, Any] = {
    "qwen2-tied": lambda: qwen2(tie_word_embeddings=True),
    "qwen3-tied": lambda: qwen3(tie_word_embeddings=True),
    "llama-untied": lambda: llama(tie_word_embeddings=False),
}
PROMPTS = [[1, 2, 3], [40, 41, 42, 43, 44], [7]]
SAMPLING = Sampling(n=4, max_tokens=12, temperature=0.9, stop_ids=(257,))
SEEDS = [sampling_seed(1, "test", i) for i in range(3)]


def policy_of(folder: Path) -> PolicyModule:
    model = AutoModelForCausalLM.from_pretrained(
        folder, dtype=torch.float32, attn_implementation="sdpa"
    )
    return PolicyModule(model, algorithm(), OptimizerSettings(1e-3), SAMPLING.temperature, 1e-4)


def gap(policy: PolicyModule, engine: VLLMEngine | TransformersEngine) -> float:
    """The largest difference between the log-probs of an engine and of the policy (nats)."""
    return gap_of(policy, engine.generate(PROMPTS, SAMPLING, SEEDS))


def gap_of(policy: PolicyModule, drawn: list[list[Sample]]) -> float:
    rows = []
    for prompt, samples in zip(PROMPTS, drawn, strict=True):
        for sample in samples:
            rows.append((0, prompt, Completion(sample.token_ids, sample.logprobs, "", False)))
    batch = pack(rows)
    with torch.no_grad():
        return float((policy.score(batch)[0] - batch.engine_logp).abs().max())


def shake(policy: PolicyModule) -> None:
    """Add noise to every weight."""
    torch.manual_seed(3)
    with torch.no_grad():
        for parameter in policy.parameters():
            parameter += 0.2 * torch.randn_like(parameter)


def policy_in(folder: Path, tied: bool) -> PolicyModule:
    """A random Qwen3 policy whose weights and tokenizer are saved in ``folder``."""
    torch.manual_seed(0)
    model = qwen3(tie_word_embeddings=tied)
    model.save_pretrained(folder)
    byte_tokenizer().save_pretrained(folder)
    return PolicyModule(model, algorithm(), OptimizerSettings(1e-3), SAMPLING.temperature, 1e-4)
