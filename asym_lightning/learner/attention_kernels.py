"""Attention within one bucket of segments: by torch's kernel, or written out."""

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention


def sdpa(
    q: Float[Tensor, "b heads queries d"],
    k: Float[Tensor, "b kv_heads keys d"],
    v: Float[Tensor, "b kv_heads keys d"],
    *,
    mask: Bool[Tensor, "b 1 queries keys"] | None,
    scaling: float | None,
    dropout: float,
) -> Float[Tensor, "b heads queries d"]:
    """Attend by torch's ``scaled_dot_product_attention``; causally without a mask."""
    return scaled_dot_product_attention(
        q,
        k,
        v,
        mask,
        dropout,
        is_causal=mask is None,
        scale=scaling,
        enable_gqa=q.shape[1] != k.shape[1],
    )


def written_out(
    q: Float[Tensor, "b heads queries d"],
    k: Float[Tensor, "b kv_heads keys d"],
    v: Float[Tensor, "b kv_heads keys d"],
    *,
    mask: Bool[Tensor, "b 1 queries keys"] | None,
    scaling: float | None,
    softcap: float | None,
    sinks: Float[Tensor, "heads"] | None,
) -> Float[Tensor, "b heads queries d"]:
    """Attention with capped logits or sinks, which no kernel of torch knows."""
    k, v = (x.repeat_interleave(q.shape[1] // k.shape[1], 1) for x in (k, v))
    logits = (q @ k.transpose(-1, -2)).float() * (scaling or q.shape[-1] ** -0.5)
    if softcap is not None:
        logits = softcap * (logits / softcap).tanh()
    if mask is None:
        mask = torch.ones(logits.shape[-2:], dtype=torch.bool, device=q.device).tril()
    logits = logits.masked_fill(~mask, -torch.inf)
    if sinks is not None:
        column = sinks.float().view(1, -1, 1, 1).expand(*logits.shape[:3], 1)
        logits = torch.cat([logits, column], -1)
    weights = logits.softmax(-1)[..., : k.shape[-2]]
    return weights.to(v.dtype) @ v
