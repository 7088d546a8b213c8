"""Log-probabilities and entropies of given tokens, directly from hidden states and output head."""

from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.utils.checkpoint import checkpoint

# Logits that one matrix product makes: half a GB in float32.
LOGITS_PER_CHUNK = 1 << 27
# On a CPU elementwise work goes over blocks of this many logits, which stay in its cache.
_BLOCK = 1 << 19


def token_logprobs(
    hidden: Float[Tensor, "n d"],
    weight: Float[Tensor, "v d"],
    targets: Int[Tensor, "n"],
    bias: Float[Tensor, "v"] | None = None,
    temperature: float = 1.0,
    entropy_grad: bool = False,
    logits_per_chunk: int = LOGITS_PER_CHUNK,
    top_p: float | None = None,
    cap: float | None = None,
) -> tuple[Float[Tensor, "n"], Float[Tensor, "n"], Float[Tensor, "n"] | None]:
    """Return log-prob of each target, and entropy of the full-vocabulary distribution it is from.

    Both are in nats and float32. With ``top_p`` the third value is the entropy within the nucleus,
    else None.

    Sums are float32 at least, whatever the precision of the matrix products. Gradients are exact.

    Args:
        entropy_grad: compute gradients of the entropies too.
        logits_per_chunk: most logits that exist at a time; if there are more in all, the backward
            pass computes them again.
        top_p: the nucleus is the fewest tokens that hold a probability of at least ``top_p``.
        cap: logits are cap * tanh(logits / cap) before the temperature.
    """
    tokens = max(1, logits_per_chunk // weight.shape[0])
    if top_p is None:
        logp, entropy = _LogProb.apply(
            hidden, weight, bias, targets, temperature, entropy_grad, tokens, cap
        )
        return logp, entropy if entropy_grad else entropy.detach(), None
    chunks = []
    for h, t in zip(hidden.split(tokens), targets.split(tokens), strict=True):
        arguments = (h, weight, bias, t, temperature, entropy_grad, top_p, cap)
        chunks.append(checkpoint(_nucleus_chunk, *arguments, use_reentrant=False))
    logp, entropy, nucleus_entropy = (torch.cat(column) for column in zip(*chunks, strict=True))
    return logp, entropy, nucleus_entropy


class _LogProb(torch.autograd.Function):
    """Log-prob and entropy with the gradient written by hand.

    Autograd would keep a copy of the logits for every operation. This keeps at most one chunk of
    logits at a time, and across the passes only if all logits fit one chunk.
    """

    @staticmethod
    def forward(
        ctx: Any,
        hidden: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        targets: Tensor,
        temperature: float,
        entropy_grad: bool,
        tokens: int,
        cap: float | None,
    ) -> tuple[Tensor, Tensor]:
        with _WithoutAutocast(hidden) as dtype:
            hidden_, weight_ = hidden.detach().to(dtype), weight.detach().to(dtype)
            bias_ = None if bias is None else bias.detach()
            keep = hidden.shape[0] <= tokens and any(ctx.needs_input_grad[:3])
            wide = torch.promote_types(dtype, torch.float32)
            logp, entropy, lse = (
                torch.empty(hidden.shape[0], dtype=wide, device=hidden.device) for _ in range(3)
            )
            logits = hidden_.new_empty(0)
            for rows in _pieces(hidden.shape[0], tokens):
                logits = _product(hidden_[rows], weight_)
                for part in _pieces(logits.shape[0], _rows_per_block(logits)):
                    at = slice(rows.start + part.start, rows.start + part.stop)
                    # Nested, so that the copy of the logits is freed at once.
                    logp[at], entropy[at], lse[at] = _reduce(
                        _scaled(logits[part], bias_, temperature, wide=wide, cap=cap), targets[at]
                    )
        kept = logits if keep else None
        ctx.save_for_backward(hidden_, weight_, bias_, targets, entropy, lse, kept)
        ctx.settings = temperature, entropy_grad, tokens, cap
        ctx.dtypes = hidden.dtype, weight.dtype
        return logp, entropy

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_logp: Tensor, grad_entropy: Tensor) -> tuple[Tensor | None, ...]:
        hidden, weight, bias, targets, entropy, lse, kept = ctx.saved_tensors
        temperature, entropy_grad, tokens, cap = ctx.settings
        hidden_dtype, weight_dtype = ctx.dtypes
        wide = lse.dtype
        need_hidden, need_weight, need_bias = ctx.needs_input_grad[:3]
        grad_hidden = grad_weight = grad_bias = None
        if need_hidden:
            grad_hidden = torch.empty(hidden.shape, dtype=hidden_dtype, device=hidden.device)
        if need_weight:
            grad_weight = torch.zeros(weight.shape, dtype=wide, device=weight.device)
        if need_bias:
            grad_bias = torch.zeros(weight.shape[0], dtype=wide, device=weight.device)
        with _WithoutAutocast(hidden):
            for rows in _pieces(hidden.shape[0], tokens):
                logits = kept if kept is not None else _product(hidden[rows], weight)
                # The gradient of the logits overwrites them, unless they are kept or of another
                # dtype.
                slopes = logits
                if kept is not None or logits.dtype != hidden.dtype:
                    slopes = torch.empty_like(logits, dtype=hidden.dtype)
                for part in _pieces(logits.shape[0], _rows_per_block(logits)):
                    at = slice(rows.start + part.start, rows.start + part.stop)
                    scaled = _scaled(logits[part], bias, temperature, wide=wide, cap=cap)
                    # d cap tanh(x / cap) / dx = 1 - tanh(x / cap)^2
                    through_cap = None if cap is None else 1 - (scaled * (temperature / cap)) ** 2
                    slope = _logit_gradient(
                        scaled.sub_(lse[at, None]),
                        targets[at],
                        entropy[at] if entropy_grad else None,
                        grad_logp=grad_logp[at],
                        grad_entropy=grad_entropy[at],
                    )
                    slope.div_(temperature)
                    slopes[part] = slope if through_cap is None else slope.mul_(through_cap)
                    if grad_bias is not None:
                        grad_bias += slope.sum(0)
                if grad_hidden is not None:
                    grad_hidden[rows] = slopes @ weight
                if grad_weight is not None:
                    if slopes.dtype == wide:
                        grad_weight.addmm_(slopes.T, hidden[rows])
                    else:
                        grad_weight += _product(slopes.T, hidden[rows].T)
        grad_weight = grad_weight.to(weight_dtype) if grad_weight is not None else None
        return grad_hidden, grad_weight, grad_bias, None, None, None, None, None


def _logit_gradient(
    logp: Float[Tensor, "n v"],
    targets: Int[Tensor, "n"],
    entropy: Float[Tensor, "n"] | None,
    *,
    grad_logp: Float[Tensor, "n"],
    grad_entropy: Float[Tensor, "n"],
) -> Float[Tensor, "n v"]:
    """Return the gradient of scaled logits; overwrites ``logp``.

    It is g_logp (1[target] - p) - g_entropy p (log p + H), for H = ``entropy``; None leaves the
    second term out.
    """
    if entropy is None:
        gradient = logp.exp_().mul_(-grad_logp[:, None])
    else:
        factor = logp + entropy[:, None]
        factor = factor.mul_(grad_entropy[:, None]).add_(grad_logp[:, None])
        gradient = logp.exp_().mul_(factor.neg_())
    return gradient.scatter_add_(1, targets[:, None], grad_logp[:, None])


class _WithoutAutocast(torch.autocast):
    """Switches autocast off, and enters with the dtype that it would use for matrix products."""

    def __init__(self, like: Tensor):
        device = like.device.type
        self._dtype = like.dtype
        if torch.is_autocast_enabled(device) and like.dtype != torch.float64:
            self._dtype = torch.get_autocast_dtype(device)
        super().__init__(device, enabled=False)

    def __enter__(self) -> torch.dtype:
        super().__enter__()
        return self._dtype


def _pieces(count: int, size: int) -> list[slice]:
    """Cut ``count`` rows into slices of at most ``size``."""
    return [slice(i, min(i + size, count)) for i in range(0, count, size)]


def _rows_per_block(logits: Tensor) -> int:
    """Return how many rows elementwise work takes at a time: all rows on a GPU."""
    if logits.device.type == "cpu":
        return max(1, _BLOCK // logits.shape[1])
    return max(1, logits.shape[0])


def _product(a: Float[Tensor, "n d"], b: Float[Tensor, "v d"]) -> Float[Tensor, "n v"]:
    """Return a @ b.T.

    Half-precision factors give a float32 product on CUDA, so that sums over the vocabulary do not
    drift.
    """
    if a.device.type == "cuda" and a.dtype in (torch.bfloat16, torch.float16):
        return torch.mm(a, b.T, out_dtype=torch.float32)
    return a @ b.T


def _scaled(
    logits: Float[Tensor, "n v"],
    bias: Float[Tensor, "v"] | None,
    temperature: float,
    *,
    wide: torch.dtype,
    cap: float | None,
) -> Float[Tensor, "n v"]:
    """Return a copy of the logits in dtype ``wide``: with bias, capped, over the temperature."""
    scaled = logits.to(wide, copy=True)
    if bias is not None:
        # A bias of -inf excludes a token. The limit keeps 0 * inf out of the entropy.
        scaled.add_(bias).clamp_(min=torch.finfo(wide).min / 2)
    if cap is not None:
        scaled.div_(cap).tanh_().mul_(cap)
    return scaled if temperature == 1 else scaled.div_(temperature)


def _reduce(
    logits: Float[Tensor, "n v"], targets: Int[Tensor, "n"]
) -> tuple[Tensor, Tensor, Tensor]:
    """Return log-prob of the targets, entropy and log-sum-exp; overwrites ``logits``."""
    largest = logits.amax(-1)
    shifted = logits.sub_(largest[:, None])
    chosen = shifted.gather(1, targets[:, None])[:, 0]
    p = shifted.exp()
    total = p.sum(-1)
    log_total = total.log()
    entropy = log_total - torch.linalg.vecdot(p, shifted) / total
    return chosen - log_total, entropy, largest + log_total


def _nucleus_chunk(
    hidden: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    targets: Tensor,
    temperature: float,
    entropy_grad: bool,
    top_p: float,
    cap: float | None,
) -> tuple[Tensor, Tensor, Tensor]:
    """Return log-prob of the targets, entropy and nucleus entropy of a chunk, by autograd."""
    logits = torch.nn.functional.linear(hidden, weight, bias).float()
    logits = logits if cap is None else cap * (logits / cap).tanh()
    logits = (logits / temperature).log_softmax(-1)
    logp = logits.gather(-1, targets[:, None])[:, 0]
    source = logits if entropy_grad else logits.detach()
    entropy = -(source.exp() * source).nan_to_num(nan=0.0).sum(-1)
    return logp, entropy, _nucleus_entropy(source, top_p)


def _nucleus_entropy(logp: Float[Tensor, "n v"], top_p: float) -> Float[Tensor, "n"]:
    """Return the entropy of the distribution renormalised on the nucleus.

    The nucleus is the fewest tokens that hold a probability of at least ``top_p``.
    """
    with torch.no_grad():
        probability, order = logp.exp().sort(dim=-1, descending=True, stable=True)
        before = probability.cumsum(-1) - probability
        inside = torch.zeros_like(before, dtype=torch.bool).scatter(-1, order, before < top_p)
    kept = logp.masked_fill(~inside, -torch.inf).log_softmax(-1)
    return -(kept.exp() * kept.masked_fill(~inside, 0.0)).sum(-1)
