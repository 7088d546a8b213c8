"""Log-probabilities and entropies of chosen tokens, straight from hidden states and the output head."""

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.utils.checkpoint import checkpoint


def _chunk(
    hidden: Tensor, weight: Tensor, bias: Tensor | None, targets: Tensor, temperature: float, entropy_grad: bool, top_p: float | None
) -> tuple[Tensor, Tensor, Tensor | None]:
    logits = torch.nn.functional.linear(hidden, weight, bias).float() / temperature
    logits = logits.log_softmax(-1)
    logp = logits.gather(-1, targets[:, None])[:, 0]
    source = logits if entropy_grad else logits.detach()
    entropy = -(source.exp() * source).nan_to_num(nan=0.0).sum(-1)
    return logp, entropy, None if top_p is None else _nucleus_entropy(source, top_p)


def _nucleus_entropy(logp: Float[Tensor, "n v"], top_p: float) -> Float[Tensor, "n"]:
    """Entropy of the renormalised distribution on the fewest tokens that hold a probability of at least ``top_p``."""
    with torch.no_grad():
        probability, order = logp.exp().sort(dim=-1, descending=True, stable=True)
        before = probability.cumsum(-1) - probability
        inside = torch.zeros_like(before, dtype=torch.bool).scatter(-1, order, before < top_p)
    kept = logp.masked_fill(~inside, -torch.inf).log_softmax(-1)
    return -(kept.exp() * kept.masked_fill(~inside, 0.0)).sum(-1)


def token_logprobs(
    hidden: Float[Tensor, "n d"],
    weight: Float[Tensor, "v d"],
    targets: Int[Tensor, "n"],
    bias: Float[Tensor, "v"] | None = None,
    temperature: float = 1.0,
    entropy_grad: bool = False,
    logits_per_chunk: int = 1 << 24,
    top_p: float | None = None,
) -> tuple[Float[Tensor, "n"], Float[Tensor, "n"], Float[Tensor, "n"] | None]:
    """Log-probability of each target and entropy of the full-vocabulary distribution it was drawn from (nats, float32); with
    ``top_p`` also the entropy within the nucleus.

    The logits are made chunk by chunk and recomputed in the backward pass, so that at most ``logits_per_chunk`` of them
    exist at a time. Gradients are exact; those of the entropy are made only when ``entropy_grad`` is set.
    """
    tokens = max(1, logits_per_chunk // weight.shape[0])
    if hidden.shape[0] <= tokens:
        return _chunk(hidden, weight, bias, targets, temperature, entropy_grad, top_p)
    parts = [
        checkpoint(_chunk, h, weight, bias, t, temperature, entropy_grad, top_p, use_reentrant=False)
        for h, t in zip(hidden.split(tokens), targets.split(tokens), strict=True)
    ]
    logp, entropy, nucleus = zip(*parts, strict=True)
    return torch.cat(logp), torch.cat(entropy), None if top_p is None else torch.cat(nucleus)
