"""Attention over packed sequences, without an [S, S] mask.

No sequence attends to another one; the rollouts of a group may share their prompt.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache, partial
from inspect import signature
from itertools import accumulate
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from asym_lightning.learner.attention_kernels import sdpa, written_out
from asym_lightning.learner.transformers_patches import set_attention

ATTENTION_NAME = "asym_packed"
# One more attention call costs about as much as this many query-key pairs.
_SLACK = 4096


@dataclass(frozen=True)
class Segment:
    """``length`` tokens from ``start`` that attend causally to each other and to a prefix.

    The prefix is the ``prefix`` tokens from ``prefix_start``: a shared prompt. A segment without a
    prefix is a complete sequence or a shared prompt.
    """

    start: int
    length: int
    prefix_start: int = 0
    prefix: int = 0

    @property
    def keys(self) -> int:
        return self.prefix + self.length


@dataclass(frozen=True)
class Bucket:
    """b segments of similar size, padded on the right to the shapes [b, queries] and [b, keys].

    ``query_index`` and ``key_index`` are the tokens' indices in the micro-batch. ``mask`` is None
    where plain causal attention is correct.
    """

    query_index: Int[Tensor, "b*queries"]
    key_index: Int[Tensor, "b*keys"]
    queries: int
    keys: int
    mask: Bool[Tensor, "b 1 queries keys"] | None


class Layout:
    """The attention pattern of a micro-batch: segments that cover its tokens in their order.

    Args:
        segments: in the order of the tokens.
        device: device of the indices.
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
        """Return the buckets, and the index of each token's result in their concatenation.

        Args:
            window: number of tokens that a query sees at most (sliding window); None: all.
        """
        if window not in self._buckets:
            partition = _similar(self.segments)
            buckets = []
            inverse = torch.empty(self.tokens, dtype=torch.long)
            offset = 0
            for part in partition:
                bucket = _bucket([self.segments[i] for i in part], window, self.device)
                buckets.append(bucket)
                for i in part:
                    start, length = self.segments[i].start, self.segments[i].length
                    inverse[start : start + length] = torch.arange(offset, offset + length)
                    offset += bucket.queries
            self._buckets[window] = buckets, inverse.to(self.device)
        return self._buckets[window]

    def flat(self) -> tuple[Int[Tensor, "n+1"], Int[Tensor, "n+1"], Int[Tensor, "k"]]:
        """Return the inputs of a kernel for variable lengths.

        They are the boundaries of the segments' queries, those of their keys, and the token that
        each key is.
        """
        if self._flat is None:
            query_ends = accumulate((s.length for s in self.segments), initial=0)
            key_ends = accumulate((s.keys for s in self.segments), initial=0)
            index = []
            for s in self.segments:
                if s.prefix:
                    index.append(torch.arange(s.prefix_start, s.prefix_start + s.prefix))
                if s.length:
                    index.append(torch.arange(s.start, s.start + s.length))
            self._flat = (
                torch.tensor(list(query_ends), dtype=torch.int32, device=self.device),
                torch.tensor(list(key_ends), dtype=torch.int32, device=self.device),
                torch.cat(index).to(self.device),
            )
        return self._flat


def _similar(segments: Sequence[Segment]) -> list[list[int]]:
    """Partition the segments so that padding costs less than further attention calls would.

    Segments with a prefix are kept apart from those without.
    """
    order = sorted(
        range(len(segments)),
        key=lambda i: (segments[i].prefix > 0, -segments[i].keys, -segments[i].length, i),
    )
    parts: list[list[int]] = []
    # Of the current part: longest query, longest key (the first one's), query-key pairs in use.
    queries = keys = used = 0
    for i in order:
        s = segments[i]
        same_kind = bool(parts) and (segments[parts[-1][0]].prefix > 0) == (s.prefix > 0)
        padded = (len(parts[-1]) + 1) * max(queries, s.length) * keys if same_kind else 0
        if not same_kind or padded > 1.25 * (used + s.length * s.keys) + _SLACK:
            parts.append([])
            queries, keys, used = 0, s.keys, 0
        parts[-1].append(i)
        queries, used = max(queries, s.length), used + s.length * s.keys
    return parts


def _bucket(segments: Sequence[Segment], window: int | None, device: torch.device) -> Bucket:
    """Pad ``segments`` to one shape; padding repeats token 0, and its results are not used."""
    queries, keys = max(s.length for s in segments), max(s.keys for s in segments)
    start, length, prefix_start, prefix = (
        torch.tensor([getattr(s, name) for s in segments])[:, None]
        for name in ("start", "length", "prefix_start", "prefix")
    )
    row, column = torch.arange(queries), torch.arange(keys)
    query_index = torch.where(row < length, start + row, 0)
    # Keys are the prefix, then the segment's tokens, then padding.
    after_prefix = column - prefix
    segment_key = torch.where(after_prefix < length, start + after_prefix, 0)
    key_index = torch.where(after_prefix < 0, prefix_start + column, segment_key)
    mask = None
    if bool(prefix.any()) or (window is not None and keys > window):
        # With one prefix length for all segments, one mask [1, 1, queries, keys] serves them all.
        lengths = prefix[:1] if bool((prefix == prefix[0]).all()) else prefix
        # Position of each query within its sequence.
        position = lengths[:, None] + row[:, None]
        mask = column <= position
        if window is not None:
            mask &= column > position - window
        mask = mask[:, None].to(device)
    return Bucket(
        query_index=query_index.flatten().to(device),
        key_index=key_index.flatten().to(device),
        queries=queries,
        keys=keys,
        mask=mask,
    )


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
    """Attend by ``layout``: an attention function of transformers for one micro-batch's tokens.

    On CUDA in half precision it is torch's flash kernel for variable lengths, elsewhere a few calls
    of ``scaled_dot_product_attention`` on segments of similar size. On a CPU it computes in
    float32, which is as fast there.

    Args:
        softcap: attention logits are softcap * tanh(logits / softcap) (Gemma 2).
        s_aux: a logit of each head that takes part in the softmax and has no value (gpt-oss).

    Raises:
        ValueError: there is no layout.
    """
    if layout is None:
        raise ValueError(
            f"attention {ATTENTION_NAME!r} needs layout=; "
            "load the model with attn_implementation='sdpa'"
        )
    q, k, v = (x[0].transpose(0, 1) for x in (query, key, value))
    if q.device.type != "cpu":
        # Norms and rotations of queries and keys may have left them in fp32.
        dtype = v.dtype
        if torch.is_autocast_enabled(q.device.type):
            dtype = torch.get_autocast_dtype(q.device.type)
        q, k, v = q.to(dtype), k.to(dtype), v.to(dtype)
    plain = softcap is None and s_aux is None
    kernel = flash_kernel(q)
    if kernel is not None and not dropout and plain:
        out = flash(kernel, q, k, v, layout=layout, scaling=scaling, window=sliding_window)
        return out[None], None
    attend = partial(sdpa, dropout=dropout)
    if not plain:
        attend = partial(written_out, softcap=softcap, sinks=s_aux)
    options: dict[str, Any] = {"scaling": scaling, "window": sliding_window, "attend": attend}
    with torch.autocast(q.device.type, enabled=False):
        if q.device.type == "cpu":
            out = _bucketed(q.float(), k.float(), v.float(), layout=layout, **options).to(q.dtype)
        else:
            out = _bucketed(q, k, v, layout=layout, **options)
    return out[None], None


def _bucketed(
    q: Float[Tensor, "s heads d"],
    k: Float[Tensor, "s kv_heads d"],
    v: Float[Tensor, "s kv_heads d"],
    *,
    layout: Layout,
    scaling: float | None,
    window: int | None,
    attend: Callable[..., Tensor],
) -> Float[Tensor, "s heads d"]:
    """Attend with one call of ``attend`` per bucket."""
    buckets, inverse = layout.buckets(window)
    parts = []
    for bucket in buckets:
        b = bucket.query_index.numel() // bucket.queries
        # [b * length, heads, d] -> [b, heads, length, d]
        rows = q.index_select(0, bucket.query_index).unflatten(0, (b, -1)).transpose(1, 2)
        keys = k.index_select(0, bucket.key_index).unflatten(0, (b, -1)).transpose(1, 2)
        values = v.index_select(0, bucket.key_index).unflatten(0, (b, -1)).transpose(1, 2)
        out = attend(rows, keys, values, mask=bucket.mask, scaling=scaling)
        parts.append(out.transpose(1, 2).flatten(0, 1))
    return torch.cat(parts).index_select(0, inverse)


def flash_kernel(q: Tensor) -> Callable[..., Any] | None:
    """Return torch's flash attention for variable lengths, or None where ``q`` cannot use it."""
    if q.device.type != "cuda" or q.dtype not in (torch.bfloat16, torch.float16):
        return None
    try:
        from torch.nn.attention.varlen import varlen_attn
    except ImportError:
        return None
    supported = {"window_size", "scale"} <= _parameters(varlen_attn)
    return varlen_attn if supported else None


@cache
def _parameters(kernel: Callable[..., Any]) -> frozenset[str]:
    """The names of a kernel's parameters."""
    return frozenset(signature(kernel).parameters)


def flash(
    kernel: Callable[..., Any],
    q: Float[Tensor, "s heads d"],
    k: Float[Tensor, "s kv_heads d"],
    v: Float[Tensor, "s kv_heads d"],
    *,
    layout: Layout,
    scaling: float | None,
    window: int | None,
) -> Float[Tensor, "s heads d"]:
    """Attend with one call of ``kernel`` for all segments.

    The kernel's causal mask is aligned to the last query and the last key of each segment.
    """
    query_ends, key_ends, index = layout.flat()
    if any(s.prefix for s in layout.segments):
        k, v = k.index_select(0, index), v.index_select(0, index)
    longest_query = max(s.length for s in layout.segments)
    longest_key = max(s.keys for s in layout.segments)
    left = -1 if window is None else window - 1
    options = {}
    if q.shape[1] != k.shape[1]:
        if "enable_gqa" in _parameters(kernel):
            options = {"enable_gqa": True}
        else:
            # For example in torch 2.11.
            k, v = (x.repeat_interleave(q.shape[1] // k.shape[1], 1) for x in (k, v))
    return kernel(
        q,
        k,
        v,
        query_ends,
        key_ends,
        longest_query,
        longest_key,
        scale=scaling,
        window_size=(left, 0),
        **options,
    )


def register_attention(compiled: bool = False) -> None:
    """Register packed attention with transformers; each process must.

    Args:
        compiled: whether torch.compile compiles the layers. Packed attention is then kept out of
            the compilation, since its shapes change with every micro-batch.
    """
    from transformers import AttentionInterface

    attention = torch.compiler.disable(packed_attention) if compiled else packed_attention
    AttentionInterface.register(ATTENTION_NAME, attention)


def use_packed_attention(model: Any) -> bool:
    """Make a transformers model attend by layout, and return whether it can.

    It cannot if it does not take an attention function from outside, or if its layers carry a state
    from token to token.
    """
    config = model.config
    kinds = getattr(config, "layer_types", None) or []
    has_state = any("attention" not in kind or "linear" in kind for kind in kinds)
    if has_state or not model.is_backend_compatible():
        return False
    register_attention()
    set_attention(model, ATTENTION_NAME)
    return True
