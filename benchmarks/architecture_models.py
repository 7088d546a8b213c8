"""Small random models of many architectures, for architectures.py.

The sizes are the smallest that vLLM's kernels for a CPU take (head size 32). Their logits are as
wide as a trained model's, so that a scale or cap that is left out shows.
"""

from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, AutoModelForCausalLM

from asym_lightning.learner.embedded import byte_tokenizer

WIDTH = 3.0  # standard deviation of the logits
COMMON: dict[str, Any] = {
    "vocab_size": 288,
    "hidden_size": 128,
    "num_hidden_layers": 2,
    "intermediate_size": 256,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 512,
    "bos_token_id": None,
    "eos_token_id": 256,
    "pad_token_id": 257,
    "tie_word_embeddings": False,
}
HEAD = {"head_dim": 32}
WINDOW = {"sliding_window": 8}
GPT = {"n_embd": 128, "n_head": 4, "n_layer": 2}
EXPERTS = {
    "num_experts": 4,
    "num_local_experts": 4,
    "n_routed_experts": 4,
    "num_experts_per_tok": 2,
    "moe_intermediate_size": 64,
}
DEEPSEEK = {
    **EXPERTS,
    "first_k_dense_replace": 1,
    "n_shared_experts": 1,
    "n_group": 1,
    "topk_group": 1,
}
LATENT = {
    "q_lora_rank": 16,
    "kv_lora_rank": 16,
    "qk_nope_head_dim": 8,
    "qk_rope_head_dim": 8,
    "v_head_dim": 32,
    "num_key_value_heads": 4,
}
LINEAR = {
    "layer_types": ["linear_attention", "full_attention"],
    "linear_num_key_heads": 2,
    "linear_num_value_heads": 4,
    "linear_key_head_dim": 32,
    "linear_value_head_dim": 32,
}
GEMMA = {**HEAD, **WINDOW, "query_pre_attn_scalar": 16}

# What differs from COMMON, by transformers' model type.
MODELS: dict[str, dict[str, Any]] = {
    "afmoe": {**HEAD, **EXPERTS, **WINDOW, "num_dense_layers": 1, "num_shared_experts": 1},
    "apertus": {},
    "arcee": {},
    "bamba": {
        "attn_layer_indices": [1],
        "mamba_n_heads": 8,
        "mamba_d_head": 32,
        "mamba_n_groups": 1,
        "mamba_d_state": 16,
    },
    "biogpt": {},
    "bloom": {"n_head": 4, "n_layer": 2},
    "codegen": {**GPT, "rotary_dim": 8, "n_positions": 512},
    "cohere": {"logit_scale": 1.0},
    # vLLM's window is a token wider than transformers': one that no sequence fills.
    "cohere2": {"sliding_window": 64, "logit_scale": 0.25},
    "cwm": {**HEAD, **WINDOW, "bos_token_id": 258},
    "deepseek_v2": {**LATENT, **DEEPSEEK},
    "deepseek_v3": {**LATENT, **DEEPSEEK},
    "diffllama": {},
    "doge": {},
    "dots1": {**HEAD, **DEEPSEEK},
    "ernie4_5": HEAD,
    "ernie4_5_moe": {**EXPERTS, "moe_num_experts": 4, "moe_k": 2},
    "exaone4": {**WINDOW, "layer_types": ["sliding_attention", "full_attention"]},
    "falcon": {"new_decoder_architecture": True, "num_kv_heads": 2, "alibi": False},
    "falcon_h1": {
        **HEAD,
        "mamba_d_ssm": 64,
        "mamba_n_heads": 4,
        "mamba_d_head": 16,
        "mamba_d_state": 8,
        "mamba_n_groups": 1,
    },
    "flex_olmo": EXPERTS,
    "gemma": HEAD,
    "gemma2": {**GEMMA, "final_logit_softcapping": 3.0},
    "gemma3_text": GEMMA,
    "gemma3n_text": {
        **HEAD,
        **WINDOW,
        "num_kv_shared_layers": 0,
        "vocab_size_per_layer_input": 288,
        "hidden_size_per_layer_input": 16,
        "laurel_rank": 8,
        "altup_num_inputs": 2,
        "activation_sparsity_pattern": [0.0, 0.0],
    },
    "gemma4_text": {**HEAD, **WINDOW, "global_head_dim": 32},
    "glm": HEAD,
    "glm4": HEAD,
    "glm4_moe": {**HEAD, **DEEPSEEK},
    "gpt2": {**GPT, "n_positions": 512},
    "gpt_bigcode": {**GPT, "n_positions": 512, "num_key_value_heads": 1},
    "gpt_neo": {
        "attention_types": [[["global", "local"], 1]],
        "num_layers": 2,
        "num_heads": 4,
        "window_size": 8,
    },
    "gpt_neox": {},
    "gpt_oss": {**HEAD, **WINDOW, **EXPERTS},
    "gptj": {**GPT, "rotary_dim": 8, "n_positions": 512},
    "granite": {"logits_scaling": 8.0, "attention_multiplier": 0.25},
    "granitemoe": EXPERTS,
    "granitemoehybrid": {**EXPERTS, "layer_types": ["attention", "attention"]},
    "granitemoeshared": EXPERTS,
    "helium": HEAD,
    "hunyuan_v1_dense": HEAD,
    "hunyuan_v1_moe": {**HEAD, **EXPERTS, "moe_topk": 2},
    "hyperclovax": {"logits_scaling": 0.5},
    "jais2": HEAD,
    "jamba": {"attn_layer_period": 2, "attn_layer_offset": 1, "num_experts": 1},
    "lfm2": {"layer_types": ["conv", "full_attention"], "full_attn_idxs": [1]},
    "lfm2_moe": {"layer_types": ["conv", "full_attention"], "num_dense_layers": 1, **EXPERTS},
    "llama": {},
    "mamba": {"state_size": 8},
    "mamba2": {"state_size": 8, "num_heads": 8, "head_dim": 32, "n_groups": 1},
    "minicpm3": LATENT,
    "minimax": {**HEAD, **EXPERTS},
    "ministral": {**HEAD, **WINDOW},
    "ministral3": {},
    "mistral": WINDOW,
    "mixtral": EXPERTS,
    "mpt": {"d_model": 128, "n_heads": 4, "n_layers": 2, "max_seq_len": 512},
    "nanochat": {},
    "nemotron": HEAD,
    "nemotron_h": {},
    "olmo": {},
    "olmo2": {},
    "olmo3": WINDOW,
    "olmoe": EXPERTS,
    "opt": {"ffn_dim": 128, "word_embed_proj_dim": 128},
    "persimmon": {},
    "phi": {},
    "phi3": {},
    "phimoe": EXPERTS,
    "qwen2": {},
    "qwen2_moe": {**EXPERTS, "shared_expert_intermediate_size": 64},
    "qwen3": HEAD,
    "qwen3_5_text": {**HEAD, **LINEAR},
    "qwen3_moe": {**HEAD, **EXPERTS},
    "qwen3_next": {**HEAD, **LINEAR, **EXPERTS, "shared_expert_intermediate_size": 64},
    "recurrent_gemma": {"lru_width": 128},
    "seed_oss": HEAD,
    "smollm3": {},
    "solar_open": {**HEAD, **DEEPSEEK},
    "stablelm": {},
    "starcoder2": {},
    "vaultgemma": GEMMA,
    "xglm": {"d_model": 128, "attention_heads": 4, "num_layers": 2, "ffn_dim": 128},
}
# Their published models use the embedding as output head.
TIED = {
    *("biogpt", "bloom", "cohere", "cohere2", "falcon", "gemma", "gemma2", "gemma3_text"),
    *("gemma3n_text", "gemma4_text", "glm4", "gpt2", "gpt_bigcode", "gpt_neo", "lfm2"),
    *("lfm2_moe", "mpt", "opt", "recurrent_gemma", "vaultgemma", "xglm"),
}


def build(kind: str) -> Any:
    """A random model of a model type, in float32."""
    tied = {"tie_word_embeddings": True} if kind in TIED else {}
    # A key that the model does not have, vLLM may read all the same.
    usual = AutoConfig.for_model(kind)
    common = {key: value for key, value in COMMON.items() if hasattr(usual, key)}
    config = AutoConfig.for_model(kind, **{**common, **MODELS[kind], **tied})
    torch.manual_seed(0)
    return AutoModelForCausalLM.from_config(config)


@torch.no_grad()
def widen(model: Any) -> None:
    """Scale a random model's weights, so that its logits vary by ``WIDTH``.

    A head that is the embedding scales the input too, and is brought there in steps.
    """
    generator = torch.Generator().manual_seed(1)
    for name, parameter in model.named_parameters():
        kept = ("embed", "wte", "conv", "A_log", "dt")
        if any(part in name for part in kept):
            continue
        if parameter.ndim >= 2:
            parameter.mul_(5)
        else:
            parameter.add_(0.05 * torch.randn(parameter.shape, generator=generator))
    ids = torch.randint(0, 250, (2, 24), generator=generator)
    head = model.get_output_embeddings().weight
    for _ in range(20):
        width = float(model.eval()(ids).logits.std())
        if abs(width / WIDTH - 1) < 0.1:
            return
        head.mul_((WIDTH / width) ** 0.5)


def save(kind: str, folder: Path) -> Any:
    """Write a small model of a model type, with a byte tokenizer; return its config."""
    model = build(kind)
    widen(model)
    model.save_pretrained(folder)
    byte_tokenizer().save_pretrained(folder)
    return model.config
