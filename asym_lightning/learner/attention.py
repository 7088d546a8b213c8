"""Attention over packed sequences: none sees another, the rollouts of a group may share their prompt, and no [S, S] mask is made."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from inspect import signature
from itertools import accumulate
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

NAME = "asym_packed"
_SLACK = 4096  # query-key pairs that one more call costs about as much as


@dataclass(frozen=True)
class Segment:
    """``length`` tokens laid end to end that attend causally to each other and to the ``prefix`` tokens before them, which lie from
    ``prefix_start``; a segment without prefix is a whole sequence or a shared prompt."""

    start: int
    length: int
    prefix_start: int = 0
    prefix: int = 0

    @property
    def keys(self) -> int:
        return self.prefix + self.length


@dataclass(frozen=True)
class Bucket:
    """Segments of similar size, padded on the right to one shape [b, queries] and [b, keys]; ``mask`` is None where plain causal
    attention does."""

    query_index: Int[Tensor, "b*queries"]
    key_index: Int[Tensor, "b*keys"]
    queries: int
    keys: int
    mask: Bool[Tensor, "b 1 queries keys"] | None


class Layout:
    """Who attends to whom in a micro-batch: segments that cover its tokens in their order.

    Args:
        segments: in the order of the tokens.
        device: where the indices are needed.
    """

    def __init__(self, segments: Sequence[Segment], device: torch.device | str = "cpu"):
        self.segments, self.device = segments, torch.device(device)
        self._buckets: dict[int | None, tuple[list[Bucket], Tensor]] = {}
        self._flat: tuple[Tensor, Tensor, Tensor] | None = None

    def to(self, device: torch.device) -> "Layout":
        return self if device == self.device else Layout(self.segments, device)

    @property
    def tokens(self) -> int:
        return sum(segment.length for segment in self.segments)

    def buckets(self, window: int | None) -> tuple[list[Bucket], Int[Tensor, "s"]]:
        """The buckets, and where each token's result lies among theirs, laid end to end."""
        if window not in self._buckets:
            chosen = _similar(self.segments)
            made = [_bucket([self.segments[i] for i in part], window, self.device) for part in chosen]
            inverse = torch.empty(self.tokens, dtype=torch.long)
            offset = 0
            for part, bucket in zip(chosen, made, strict=True):
                for i in part:
                    segment = self.segments[i]
                    inverse[segment.start : segment.start + segment.length] = torch.arange(offset, offset + segment.length)
                    offset += bucket.queries
            self._buckets[window] = made, inverse.to(self.device)
        return self._buckets[window]

    def flat(self) -> tuple[Int[Tensor, "n+1"], Int[Tensor, "n+1"], Int[Tensor, "k"]]:
        """Boundaries of the segments' queries and keys for a kernel of variable lengths, and which token each key is."""
        if self._flat is None:
            bounds = [list(accumulate((getattr(s, name) for s in self.segments), initial=0)) for name in ("length", "keys")]
            index = [torch.arange(a, a + n) for s in self.segments for a, n in ((s.prefix_start, s.prefix), (s.start, s.length)) if n]
            cu_q, cu_k = (torch.tensor(b, dtype=torch.int32, device=self.device) for b in bounds)
            self._flat = cu_q, cu_k, torch.cat(index).to(self.device)
        return self._flat


def _similar(segments: Sequence[Segment]) -> list[list[int]]:
    """Segments parted so that padding costs less than further calls would; those with a prefix apart from those without."""
    order = sorted(range(len(segments)), key=lambda i: (segments[i].prefix > 0, -segments[i].keys, -segments[i].length, i))
    parts: list[list[int]] = []
    queries = keys = used = 0
    for i in order:
        s = segments[i]
        same = bool(parts) and (segments[parts[-1][0]].prefix > 0) == (s.prefix > 0)
        padded = (len(parts[-1]) + 1) * max(queries, s.length) * keys if same else 0
        if not same or padded > 1.25 * (used + s.length * s.keys) + _SLACK:
            parts.append([])
            queries, keys, used = 0, s.keys, 0
        parts[-1].append(i)
        queries, used = max(queries, s.length), used + s.length * s.keys
    return parts


def _bucket(segments: Sequence[Segment], window: int | None, device: torch.device) -> Bucket:
    queries, keys = max(s.length for s in segments), max(s.keys for s in segments)
    start, length, prefix_start, prefix = (
        torch.tensor([getattr(s, name) for s in segments])[:, None] for name in ("start", "length", "prefix_start", "prefix")
    )
    row, column = torch.arange(queries), torch.arange(keys)
    query_index = torch.where(row < length, start + row, 0)
    own = column - prefix
    key_index = torch.where(own < 0, prefix_start + column, torch.where(own < length, start + own, 0))
    mask = None
    if bool(prefix.any()) or (window is not None and keys > window):
        first = prefix[:1] if bool((prefix == prefix[0]).all()) else prefix
        at = first[:, None] + row[:, None]  # position of each query within its sequence
        mask = column <= at
        if window is not None:
            mask &= column > at - window
        mask = mask[:, None].to(device)
    return Bucket(query_index.flatten().to(device), key_index.flatten().to(device), queries, keys, mask)


def packed_attention(
    module: Any,
    query: Float[Tensor, "1 heads s d"],
    key: Float[Tensor, "1 kv_heads s d"],
    value: Float[Tensor, "1 kv_heads s d"],
    attention_mask: Any,
    scaling: float | None = None,
    dropout: float = 0.0,
    sliding_window: int | None = None,
    layout: Layout | None = None,
    softcap: float | None = None,
    s_aux: Any = None,
    **_: Any,
) -> tuple[Float[Tensor, "1 s heads d"], None]:
    """An attention function of transformers (``attn_implementation``) for the tokens of one micro-batch.

    On CUDA in half precision the flash kernel for variable lengths that comes with torch; elsewhere a few calls of
    ``scaled_dot_product_attention`` on segments of similar size. On a CPU in float32, which is as fast there.

    Raises:
        ValueError: without a layout, or for a model whose attention caps its logits or has sinks.
    """
    if layout is None or softcap is not None or s_aux is not None:
        raise ValueError(f"attention {NAME!r} needs layout= and knows no softcap or sinks; load the model with attn_implementation='sdpa'")
    q, k, v = (x[0].transpose(0, 1) for x in (query, key, value))
    if q.device.type != "cpu":  # norms and rotations of queries and keys may have left them in fp32
        kind = torch.get_autocast_dtype(q.device.type) if torch.is_autocast_enabled(q.device.type) else v.dtype
        q, k, v = q.to(kind), k.to(kind), v.to(kind)
    kernel = flash_kernel(q)
    if kernel is not None and not dropout:
        return flash(kernel, q, k, v, layout, scaling, sliding_window)[None], None
    with torch.autocast(q.device.type, enabled=False):
        if q.device.type == "cpu":
            out = _bucketed(q.float(), k.float(), v.float(), layout, scaling, dropout, sliding_window).to(q.dtype)
        else:
            out = _bucketed(q, k, v, layout, scaling, dropout, sliding_window)
    return out[None], None


def _bucketed(q: Tensor, k: Tensor, v: Tensor, layout: Layout, scaling: float | None, dropout: float, window: int | None) -> Tensor:
    buckets, inverse = layout.buckets(window)
    parts = []
    for bucket in buckets:
        b = bucket.query_index.numel() // bucket.queries
        rows = q.index_select(0, bucket.query_index).unflatten(0, (b, -1)).transpose(1, 2)
        keys, values = (x.index_select(0, bucket.key_index).unflatten(0, (b, -1)).transpose(1, 2) for x in (k, v))
        out = scaled_dot_product_attention(
            rows, keys, values, bucket.mask, dropout, is_causal=bucket.mask is None, scale=scaling, enable_gqa=q.shape[1] != k.shape[1]
        )
        parts.append(out.transpose(1, 2).flatten(0, 1))
    return torch.cat(parts).index_select(0, inverse)


def flash_kernel(q: Tensor) -> Callable[..., Any] | None:
    """torch's flash attention for variable lengths where it can be used."""
    if q.device.type != "cuda" or q.dtype not in (torch.bfloat16, torch.float16):
        return None
    try:
        from torch.nn.attention.varlen import varlen_attn
    except ImportError:
        return None
    return varlen_attn if {"window_size", "scale"} <= set(signature(varlen_attn).parameters) else None


def flash(
    kernel: Callable[..., Any],
    q: Float[Tensor, "s heads d"],
    k: Float[Tensor, "s kv_heads d"],
    v: Float[Tensor, "s kv_heads d"],
    layout: Layout,
    scaling: float | None,
    window: int | None,
) -> Float[Tensor, "s heads d"]:
    """One call of ``kernel`` for all segments; its causal mask is aligned to the last query and the last key."""
    cu_q, cu_k, index = layout.flat()
    if any(s.prefix for s in layout.segments):
        k, v = k.index_select(0, index), v.index_select(0, index)
    most = [max(getattr(s, name) for s in layout.segments) for name in ("length", "keys")]
    left, options = -1 if window is None else window - 1, {}
    if q.shape[1] != k.shape[1]:
        if "enable_gqa" in signature(kernel).parameters:
            options = {"enable_gqa": True}
        else:  # such as torch 2.11
            k, v = (x.repeat_interleave(q.shape[1] // k.shape[1], 1) for x in (k, v))
    return kernel(q, k, v, cu_q, cu_k, *most, scale=scaling, window_size=(left, 0), **options)


def register_attention(compiled: bool = False) -> None:
    """Make packed attention known to transformers in this process; in ``compiled`` layers it runs as it is, since its shapes change
    with every micro-batch."""
    from transformers import AttentionInterface

    AttentionInterface.register(NAME, torch.compiler.disable(packed_attention) if compiled else packed_attention)


def use_packed_attention(model: Any) -> bool:
    """Let a transformers model attend by layout where it takes an attention function from outside; False where it does not, or has
    layers that carry a state from token to token."""
    config = model.config
    special = getattr(config, "attn_logit_softcapping", None) or getattr(config, "model_type", "") == "gpt_oss"  # attention sinks
    states = any("attention" not in kind or "linear" in kind for kind in getattr(config, "layer_types", None) or [])
    if special or states or not getattr(model, "_supports_attention_backend", False):
        return False
    register_attention()
    config._attn_implementation = NAME
    return True
