"""The learner's kernels on a GPU against float64; skipped without a GPU."""

import pytest
import torch
from torch import Tensor

from asym_lightning.learner.attention import Layout, Segment, flash_kernel, packed_attention
from asym_lightning.learner.logprob import token_logprobs

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")

# A prompt that three completions share, and a separate sequence.
SEGMENTS = [
    Segment(0, 37),
    Segment(37, 60, 0, 37),
    Segment(97, 1, 0, 37),
    Segment(98, 130, 0, 37),
    Segment(228, 75),
]
TOKENS = 303


def allowed(window: int | None) -> Tensor:
    """[query, key]: whether a query sees a key."""
    sees = torch.zeros(TOKENS, TOKENS, dtype=torch.bool)
    for s in SEGMENTS:
        keys = [*range(s.prefix_start, s.prefix_start + s.prefix)]
        keys += range(s.start, s.start + s.length)
        for i in range(s.length):
            seen = keys[: s.prefix + i + 1]
            sees[s.start + i, seen[-window:] if window else seen] = True
    return sees


def error(found: Tensor, expected: Tensor) -> float:
    """The relative error in the 2-norm; NaN if either tensor has a NaN."""
    return float((found.detach().double().cpu() - expected).norm() / expected.norm())


@pytest.mark.parametrize("window", [None, 16])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
@pytest.mark.parametrize("heads", [(8, 2, 64), (4, 4, 128)])
def test_packed_attention(
    heads: tuple[int, int, int], dtype: torch.dtype, window: int | None
) -> None:
    queries, shared, width = heads
    generator = torch.Generator().manual_seed(0)
    tensors = [
        torch.randn(1, n, TOKENS, width, generator=generator).to(dtype)
        for n in (queries, shared, shared)
    ]
    slope = torch.randn(1, TOKENS, queries, width, generator=generator)
    exact = [t.double().requires_grad_() for t in tensors]
    q, k, v = exact[0], *(t.repeat_interleave(queries // shared, 1) for t in exact[1:])
    logits = (q @ k.transpose(2, 3) * width**-0.5).masked_fill(~allowed(window), -torch.inf)
    expected = (logits.softmax(-1) @ v).transpose(1, 2)
    expected.backward(slope.double())
    given = [t.cuda().requires_grad_() for t in tensors]
    assert (flash_kernel(given[0][0].transpose(0, 1)) is not None) == (dtype == torch.bfloat16)
    layout = Layout(SEGMENTS, "cuda")
    found, _ = packed_attention(
        torch.nn.Identity(), *given, None, width**-0.5, sliding_window=window, layout=layout
    )
    found.backward(slope.cuda().to(dtype))
    limit = 1e-2 if dtype == torch.bfloat16 else 1e-5
    assert error(found, expected.detach()) < limit
    for single, double in zip(given, exact, strict=True):
        assert single.grad is not None and double.grad is not None
        assert error(single.grad, double.grad) < limit


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
@pytest.mark.parametrize("chunk", [1 << 27, 5000])
def test_log_prob_and_entropy(dtype: torch.dtype, chunk: int) -> None:
    generator = torch.Generator().manual_seed(1)
    hidden = torch.randn(70, 96, generator=generator).to(dtype)
    weight = (torch.randn(1001, 96, generator=generator) * 0.3).to(dtype)
    targets = torch.randint(1001, (70,), generator=generator)
    slopes = torch.randn(2, 70, generator=generator)
    exact = hidden.double().requires_grad_(), weight.double().requires_grad_()
    logp = (exact[0] @ exact[1].T / 0.7).log_softmax(-1)
    expected = logp.gather(1, targets[:, None])[:, 0], -(logp.exp() * logp).sum(-1)
    torch.autograd.backward(expected, tuple(slopes.double()))
    given = hidden.cuda().requires_grad_(), weight.cuda().requires_grad_()
    found = token_logprobs(*given, targets.cuda(), None, 0.7, True, chunk)[:2]
    torch.autograd.backward(found, tuple(slopes.cuda()))
    for single, double in zip(found, expected, strict=True):
        assert single.dtype == torch.float32 and error(single, double.detach()) < 1e-5
    for single, double in zip(given, exact, strict=True):
        assert single.grad is not None and double.grad is not None
        assert error(single.grad, double.grad) < (1e-2 if dtype == torch.bfloat16 else 1e-5)


def test_autocast_reaches_packed_attention() -> None:
    """Queries and keys come in fp32 and values in bf16, as in a layer that norms the first two."""
    generator = torch.Generator().manual_seed(2)
    q, k, v = (torch.randn(1, 4, TOKENS, 64, generator=generator).cuda() for _ in range(3))
    layout = Layout(SEGMENTS, "cuda")
    exact, _ = packed_attention(torch.nn.Identity(), q, k, v, None, layout=layout)
    with torch.autocast("cuda", torch.bfloat16):
        found, _ = packed_attention(torch.nn.Identity(), q, k, v.bfloat16(), None, layout=layout)
    assert found.dtype == torch.bfloat16
    assert error(found, exact.double().cpu()) < 1e-2
