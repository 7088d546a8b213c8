"""A random model whose completion lengths look real: geometric, with a given mean."""

import json
from typing import Any

import torch
from torch import Tensor

from against.sizes import Shape


def stop_probability(mean: float, most: int) -> float:
    """Probability of the end token at every position for completions of mean length ``mean``.

    Completions are cut at ``most`` tokens, and the end token counts: (1 - (1-p)^most) / p = mean.
    """
    low, high = 1e-9, 1.0
    for _ in range(100):
        p = (low + high) / 2
        low, high = (p, high) if (1 - (1 - p) ** most) / p > mean else (low, p)
    return p


def random_model(shape: Shape, tokenizer: Any, stop: float, device: str = "cpu") -> Any:
    """A model that ends a completion with probability ``stop`` at every position.

    The probability does not depend on the earlier tokens. The model has ``shape`` and is built on
    ``device``.

    Axis 0 of the residual stream is 1 in every token's embedding; no layer reads it or writes to
    it, so it reaches the final norm unchanged. There it is scaled to about 1, and the end token's
    embedding is zero on all other axes: its logit is that one number everywhere, and the other
    tokens' logits are those of a random model, all higher by about 1. The number is set so that the
    mean probability of the end token over positions of random sequences is ``stop``. In all else it
    is an ordinary Qwen3, with as much to compute as any.
    """
    with torch.device(device):
        model = _initialised(shape, tokenizer)
    embedding: Tensor = model.get_input_embeddings().weight
    end = tokenizer.eos_token_id
    with torch.no_grad():
        embedding[:, 0] = 1.0
        embedding[end] = 0.0
        for layer in model.model.layers:
            for norm in (layer.input_layernorm, layer.post_attention_layernorm):
                norm.weight[0] = 0.0
            for written in (layer.self_attn.o_proj, layer.mlp.down_proj):
                written.weight[0] = 0.0
        ids = torch.randint(
            shape.vocabulary, (4, 128), generator=torch.Generator().manual_seed(shape.seed)
        ).to(device)
        ids[ids == end] = (end + 1) % shape.vocabulary
        model.model.norm.weight[0] /= _hidden(model, ids)[:, 0].mean()
        hidden = _hidden(model, ids)
        only = torch.tensor([end], device=device)
        rest = [
            (part @ embedding.T).index_fill(1, only, -torch.inf).logsumexp(1)
            for part in hidden.split(64)
        ]
        embedding[end, 0] = _offset(hidden[:, 0].double(), torch.cat(rest).double(), stop)
    return model


def _hidden(model: Any, ids: Tensor) -> Tensor:
    return model.model(input_ids=ids, use_cache=False).last_hidden_state.flatten(0, 1)


def _offset(axis: Tensor, rest: Tensor, stop: float) -> float:
    """The end token's weight on the axis for a mean probability of ``stop``.

    The mean is beside logits of log-sum-exp ``rest``.
    """
    low, high = -100.0, 100.0
    for _ in range(100):
        weight = (low + high) / 2
        low, high = (
            (weight, high)
            if float((weight * axis - rest).sigmoid().mean()) < stop
            else (low, weight)
        )
    return weight


def _initialised(shape: Shape, tokenizer: Any) -> Any:
    from transformers import Qwen3Config, Qwen3ForCausalLM

    torch.manual_seed(shape.seed)
    return Qwen3ForCausalLM(
        Qwen3Config(
            vocab_size=shape.vocabulary,
            hidden_size=shape.hidden,
            num_hidden_layers=shape.layers,
            intermediate_size=shape.intermediate,
            num_attention_heads=shape.heads,
            num_key_value_heads=shape.kv_heads,
            head_dim=shape.head_dim,
            max_position_embeddings=shape.context,
            tie_word_embeddings=True,
            pad_token_id=tokenizer.pad_token_id,
            eos_token_id=tokenizer.eos_token_id,
            bos_token_id=None,
        )
    ).eval()


def tokenizer_for(texts: list[str], vocabulary: int, learned: int = 8192) -> Any:
    """A byte-level BPE learned from the prompts, with ``vocabulary`` tokens.

    It is filled up with words that no text has, so that any sample of a random model can be
    decoded. The end token is 0, padding 1; nothing is added to a text.
    """
    from tokenizers import Tokenizer, decoders, pre_tokenizers, trainers
    from tokenizers.models import BPE
    from transformers import PreTrainedTokenizerFast

    special = ["<|end|>", "<|pad|>"]
    split = pre_tokenizers.ByteLevel(add_prefix_space=False)
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    small = Tokenizer(BPE())
    small.pre_tokenizer = split
    small.train_from_iterator(
        texts,
        trainers.BpeTrainer(
            vocab_size=min(learned, vocabulary),
            special_tokens=special,
            initial_alphabet=alphabet,
            show_progress=False,
        ),
    )
    part = json.loads(small.to_str())["model"]
    words = {**part["vocab"], **{f"Ġ~{i}~": i for i in range(len(part["vocab"]), vocabulary)}}
    full = Tokenizer(BPE(vocab=words, merges=[tuple(pair) for pair in part["merges"]]))
    full.pre_tokenizer, full.decoder = split, decoders.ByteLevel()
    return PreTrainedTokenizerFast(
        tokenizer_object=full, eos_token=special[0], pad_token=special[1]
    )
