"""What models do beside layers and head: dropout, and scales and caps of their logits."""

from copy import deepcopy
from typing import Any

import pytest
import torch
from transformers import (
    AutoModelForCausalLM,
    BloomConfig,
    CohereConfig,
    Gemma2Config,
    GPT2Config,
    GptOssConfig,
    GraniteConfig,
    HyperCLOVAXConfig,
    MambaConfig,
    OPTConfig,
)

from asym_lightning.learner.packing import pack
from asym_lightning.runtime.pretrained import attention_for
from asym_lightning.types import Completion
from tests.support.models import COMMON, policy_of

CAPPED = {"final_logit_softcapping": 0.5, "head_dim": 8, "query_pre_attn_scalar": 8}
CONFIGS: dict[str, Any] = {
    "granite divides": GraniteConfig(**COMMON, logits_scaling=0.02),
    "cohere multiplies": CohereConfig(**COMMON, logit_scale=30.0),
    "hyperclovax multiplies": HyperCLOVAXConfig(**COMMON, logits_scaling=30.0),
    "gemma2 caps": Gemma2Config(**COMMON, **CAPPED, attn_logit_softcapping=0.2),
    "gpt-oss has sinks": GptOssConfig(**COMMON, head_dim=8, sliding_window=3, num_local_experts=4),
    "bloom is padded": BloomConfig(vocab_size=40, hidden_size=32, n_layer=2, n_head=4),
    "mamba has a state": MambaConfig(vocab_size=40, hidden_size=32, num_hidden_layers=2),
    "gpt2 drops": GPT2Config(vocab_size=40, n_embd=32, n_layer=2, n_head=4, n_positions=128),
    "opt drops": OPTConfig(**COMMON, ffn_dim=64, word_embed_proj_dim=32, dropout=0.3),
}


ROLLOUTS = [((3, 4, 5, 6), [7, 8, 9, 10, 11]), ((12, 13), [14, 15]), ((3, 4, 5, 6), [1, 2, 3])]


@torch.no_grad()
def own_logprobs(model: Any) -> torch.Tensor:
    """The log-probs of all completions, each from a forward pass of the model by itself."""
    model.eval()
    parts = []
    for prompt, completion in ROLLOUTS:
        logits = model(torch.tensor([[*prompt, *completion]])).logits[0, len(prompt) - 1 : -1]
        parts.append(logits.log_softmax(-1).gather(1, torch.tensor(completion)[:, None])[:, 0])
    return torch.cat(parts)


def rollouts(share_prompts: bool) -> Any:
    sampled = [
        Completion(token_ids=ids, logprobs=[0.0] * len(ids), text="", truncated=False)
        for _, ids in ROLLOUTS
    ]
    items = [(i, ROLLOUTS[i][0], sampled[i]) for i in range(len(ROLLOUTS))]
    return pack(items, share_prompts)


@pytest.mark.parametrize("checkpointing", [False, True])
@pytest.mark.parametrize("name", CONFIGS)
def test_log_probs_are_those_of_the_models_own_forward_pass(name: str, checkpointing: bool) -> None:
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(
        deepcopy(CONFIGS[name]), attn_implementation=attention_for(CONFIGS[name])
    )
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(3)
    own = own_logprobs(model)
    assert own.std() > 0.01
    policy = policy_of(model, gradient_checkpointing=checkpointing)
    policy.train()
    logp = policy.score(rollouts(policy.packed)).logp
    torch.testing.assert_close(logp.detach(), own, atol=1e-5, rtol=1e-5)
    logp.sum().backward()
