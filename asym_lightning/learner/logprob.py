"""Log-probabilities and entropies of chosen tokens, straight from hidden states and the output head."""

from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.utils.checkpoint import checkpoint

LOGITS_PER_CHUNK = 1 << 27  # that many are made by one matrix product: half a GB in float32
_BLOCK = 1 << 19  # on a CPU the elementwise work goes over pieces that stay in its cache


def token_logprobs(
    hidden: Float[Tensor, "n d"],
    weight: Float[Tensor, "v d"],
    targets: Int[Tensor, "n"],
    bias: Float[Tensor, "v"] | None = None,
    temperature: float = 1.0,
    entropy_grad: bool = False,
    logits_per_chunk: int = LOGITS_PER_CHUNK,
    top_p: float | None = None,
) -> tuple[Float[Tensor, "n"], Float[Tensor, "n"], Float[Tensor, "n"] | None]:
    """Log-probability of each target and entropy of the full-vocabulary distribution it was drawn from (nats, float32); with
    ``top_p`` also the entropy within the nucleus.

    At most ``logits_per_chunk`` logits exist at a time; where there are more in all, the backward pass makes them again. Sums are
    float32 at least, whatever the precision of the matrix products. Gradients are exact; those of the entropies are made only when
    ``entropy_grad`` is set.
    """
    tokens = max(1, logits_per_chunk // weight.shape[0])
    if top_p is None:
        logp, entropy = _LogProb.apply(hidden, weight, bias, targets, temperature, entropy_grad, tokens)
        return logp, entropy if entropy_grad else entropy.detach(), None
    parts = [
        checkpoint(_nucleus_chunk, h, weight, bias, t, temperature, entropy_grad, top_p, use_reentrant=False)
        for h, t in zip(hidden.split(tokens), targets.split(tokens), strict=True)
    ]
    return tuple(torch.cat(values) for values in zip(*parts, strict=True))  # type: ignore[return-value]


class _LogProb(torch.autograd.Function):
    """What autograd would do, without a copy of the logits for every operation, and at most one chunk of them at a time."""

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
    ) -> tuple[Tensor, Tensor]:
        with _WithoutAutocast(hidden) as dtype:
            hidden_, weight_, bias_ = hidden.detach().to(dtype), weight.detach().to(dtype), None if bias is None else bias.detach()
            keep = hidden.shape[0] <= tokens and any(ctx.needs_input_grad[:3])
            wide = torch.promote_types(dtype, torch.float32)
            logp, entropy, lse = (torch.empty(hidden.shape[0], dtype=wide, device=hidden.device) for _ in range(3))
            logits = hidden_.new_empty(0)
            for rows in _pieces(hidden.shape[0], tokens):
                logits = _product(hidden_[rows], weight_)
                for part in _pieces(logits.shape[0], _rows_per_block(logits)):
                    at = slice(rows.start + part.start, rows.start + part.stop)
                    logp[at], entropy[at], lse[at] = _reduce(_scaled(logits[part], bias_, temperature, wide), targets[at])
        ctx.save_for_backward(hidden_, weight_, bias_, targets, entropy, lse, logits if keep else None)
        ctx.settings = temperature, entropy_grad, tokens, hidden.dtype, weight.dtype
        return logp, entropy

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_logp: Tensor, grad_entropy: Tensor) -> tuple[Tensor | None, ...]:
        hidden, weight, bias, targets, entropy, lse, kept = ctx.saved_tensors
        temperature, entropy_grad, tokens, hidden_dtype, weight_dtype = ctx.settings
        wide = lse.dtype
        need_hidden, need_weight, need_bias = ctx.needs_input_grad[:3]
        grad_hidden = torch.empty(hidden.shape, dtype=hidden_dtype, device=hidden.device) if need_hidden else None
        grad_weight = torch.zeros(weight.shape, dtype=wide, device=weight.device) if need_weight else None
        grad_bias = torch.zeros(weight.shape[0], dtype=wide, device=weight.device) if need_bias else None
        with _WithoutAutocast(hidden):
            for rows in _pieces(hidden.shape[0], tokens):
                logits = kept if kept is not None else _product(hidden[rows], weight)
                slopes = torch.empty_like(logits, dtype=hidden.dtype) if kept is not None or logits.dtype != hidden.dtype else logits
                for part in _pieces(logits.shape[0], _rows_per_block(logits)):
                    at = slice(rows.start + part.start, rows.start + part.stop)
                    p = _scaled(logits[part], bias, temperature, wide).sub_(lse[at, None])
                    if entropy_grad:
                        factor = (p + entropy[at, None]).mul_(grad_entropy[at, None]).add_(grad_logp[at, None])
                        p = p.exp_().mul_(factor.neg_())
                    else:
                        p = p.exp_().mul_(-grad_logp[at, None])
                    p.scatter_add_(1, targets[at, None], grad_logp[at, None])
                    slopes[part] = p.div_(temperature)
                    if grad_bias is not None:
                        grad_bias += p.sum(0)
                if grad_hidden is not None:
                    grad_hidden[rows] = slopes @ weight
                if grad_weight is not None:
                    if slopes.dtype == wide:
                        grad_weight.addmm_(slopes.T, hidden[rows])
                    else:
                        grad_weight += _product(slopes.T, hidden[rows].T)
        grad_weight = grad_weight.to(weight_dtype) if grad_weight is not None else None
        return grad_hidden, grad_weight, grad_bias, None, None, None, None


class _WithoutAutocast(torch.autocast):
    """Switches autocast off; gives the precision that it would have used for the matrix products."""

    def __init__(self, like: Tensor):
        kind = like.device.type
        self._dtype = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) and like.dtype != torch.float64 else like.dtype
        super().__init__(kind, enabled=False)

    def __enter__(self) -> torch.dtype:
        super().__enter__()
        return self._dtype


def _pieces(count: int, size: int) -> list[slice]:
    return [slice(i, min(i + size, count)) for i in range(0, count, size)]


def _rows_per_block(logits: Tensor) -> int:
    return max(1, _BLOCK // logits.shape[1]) if logits.device.type == "cpu" else max(1, logits.shape[0])


def _product(a: Float[Tensor, "n d"], b: Float[Tensor, "v d"]) -> Float[Tensor, "n v"]:
    """a @ b.T; from half-precision factors a float32 product where the device can, so that sums over the vocabulary do not drift."""
    if a.device.type == "cuda" and a.dtype in (torch.bfloat16, torch.float16):
        return torch.mm(a, b.T, out_dtype=torch.float32)
    return a @ b.T


def _scaled(logits: Tensor, bias: Tensor | None, temperature: float, wide: torch.dtype) -> Tensor:
    """A copy of ``logits`` with the bias, over the temperature."""
    scaled = logits.to(wide, copy=True)
    if bias is not None:
        scaled.add_(bias).clamp_(min=torch.finfo(wide).min / 2)  # -inf rules a token out: 0 * inf is no entropy
    return scaled if temperature == 1 else scaled.div_(temperature)


def _reduce(logits: Float[Tensor, "n v"], targets: Int[Tensor, "n"]) -> tuple[Tensor, Tensor, Tensor]:
    """Log-prob of the targets, entropy and log of the sum of exponentials; overwrites ``logits``."""
    top = logits.amax(-1)
    shifted = logits.sub_(top[:, None])
    chosen = shifted.gather(1, targets[:, None])[:, 0]
    p = shifted.exp()
    total = p.sum(-1)
    log_total = total.log()
    return chosen - log_total, log_total - torch.linalg.vecdot(p, shifted) / total, top + log_total


def _nucleus_chunk(
    hidden: Tensor, weight: Tensor, bias: Tensor | None, targets: Tensor, temperature: float, entropy_grad: bool, top_p: float
) -> tuple[Tensor, Tensor, Tensor]:
    logits = torch.nn.functional.linear(hidden, weight, bias).float() / temperature
    logits = logits.log_softmax(-1)
    logp = logits.gather(-1, targets[:, None])[:, 0]
    source = logits if entropy_grad else logits.detach()
    entropy = -(source.exp() * source).nan_to_num(nan=0.0).sum(-1)
    return logp, entropy, _nucleus_entropy(source, top_p)


def _nucleus_entropy(logp: Float[Tensor, "n v"], top_p: float) -> Float[Tensor, "n"]:
    """Entropy of the renormalised distribution on the fewest tokens that hold a probability of at least ``top_p``."""
    with torch.no_grad():
        probability, order = logp.exp().sort(dim=-1, descending=True, stable=True)
        before = probability.cumsum(-1) - probability
        inside = torch.zeros_like(before, dtype=torch.bool).scatter(-1, order, before < top_p)
    kept = logp.masked_fill(~inside, -torch.inf).log_softmax(-1)
    return -(kept.exp() * kept.masked_fill(~inside, 0.0)).sum(-1)
