"""Log-probabilities and entropies of chosen tokens, straight from hidden states and the output head."""

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.utils.checkpoint import checkpoint


def _chunk(
    hidden: Tensor, weight: Tensor, bias: Tensor | None, targets: Tensor, temperature: float, entropy_grad: bool
) -> tuple[Tensor, Tensor]:
    logits = torch.nn.functional.linear(hidden, weight, bias).float() / temperature
    logits = logits.log_softmax(-1)
    logp = logits.gather(-1, targets[:, None])[:, 0]
    source = logits if entropy_grad else logits.detach()
    entropy = -(source.exp() * source).nan_to_num(nan=0.0).sum(-1)
    return logp, entropy


def token_logprobs(
    hidden: Float[Tensor, "n d"],
    weight: Float[Tensor, "v d"],
    targets: Int[Tensor, "n"],
    bias: Float[Tensor, "v"] | None = None,
    temperature: float = 1.0,
    entropy_grad: bool = False,
    logits_per_chunk: int = 1 << 24,
) -> tuple[Float[Tensor, "n"], Float[Tensor, "n"]]:
    """Log-probability of each target and entropy of the full-vocabulary distribution it was drawn from (nats, float32).

    The logits are made chunk by chunk and recomputed in the backward pass, so that at most ``logits_per_chunk`` of them
    exist at a time. Gradients are exact; those of the entropy are made only when ``entropy_grad`` is set.
    """
    tokens = max(1, logits_per_chunk // weight.shape[0])
    if hidden.shape[0] <= tokens:
        return _chunk(hidden, weight, bias, targets, temperature, entropy_grad)
    parts = [
        checkpoint(_chunk, h, weight, bias, t, temperature, entropy_grad, use_reentrant=False)
        for h, t in zip(hidden.split(tokens), targets.split(tokens), strict=True)
    ]
    return torch.cat([logp for logp, _ in parts]), torch.cat([entropy for _, entropy in parts])
