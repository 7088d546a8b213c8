"""Log-probs and entropies against float64 references, and packing against plain rows."""

from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import (
    LlamaConfig,
    LlamaForCausalLM,
    Qwen2Config,
    Qwen2ForCausalLM,
    Qwen3Config,
    Qwen3ForCausalLM,
)

from asym_lightning.learner.backward_plan import diagnostic_weights
from asym_lightning.learner.logprob import token_logprobs
from asym_lightning.learner.packing import first_fit_decreasing, pack
from asym_lightning.types import Completion
from tests.support.models import COMMON


@pytest.mark.parametrize("per_chunk", [1 << 20, 37 * 4, 1])
@pytest.mark.parametrize("temperature", [1.0, 0.7])
@pytest.mark.parametrize("cap", [None, 3.0])
def test_logprob_and_entropy_match_the_full_float64_reference(
    per_chunk: int, temperature: float, cap: float | None
) -> None:
    torch.manual_seed(0)
    hidden, weight = torch.randn(10, 8, requires_grad=True), torch.randn(37, 8, requires_grad=True)
    bias, targets = torch.randn(37, requires_grad=True), torch.randint(37, (10,))
    leaves = [hidden, weight, bias]
    exact = [x.detach().double().requires_grad_() for x in leaves]
    logits = exact[0] @ exact[1].T + exact[2]
    logits = logits if cap is None else cap * (logits / cap).tanh()
    full = (logits / temperature).log_softmax(-1)
    want = full.gather(1, targets[:, None])[:, 0], -(full.exp() * full).sum(-1)
    got = token_logprobs(
        hidden,
        weight,
        targets,
        bias=bias,
        temperature=temperature,
        entropy_grad=True,
        logits_per_chunk=per_chunk,
        cap=cap,
    )
    for g, w in zip(got[:2], want, strict=True):
        torch.testing.assert_close(g.double(), w, rtol=1e-6, atol=1e-6)
    mix = torch.randn(10).double()
    want_grads = torch.autograd.grad((want[0] * mix).sum() + (want[1] * mix.flip(0)).sum(), exact)
    total = (got[0] * mix.float()).sum() + (got[1] * mix.flip(0).float()).sum()
    got_grads = torch.autograd.grad(total, leaves)
    for g, w in zip(got_grads, want_grads, strict=True):
        assert (g.double() - w).norm() / w.norm() < 1e-5


def test_extreme_logits_stay_finite() -> None:
    hidden = torch.tensor([[1e4], [-1e4]], requires_grad=True)
    weight = torch.tensor([[1.0], [-1.0], [0.0]])
    logp, entropy, _ = token_logprobs(hidden, weight, torch.tensor([0, 1]), entropy_grad=True)
    (logp.sum() + entropy.sum()).backward()
    assert torch.isfinite(torch.cat([logp, entropy])).all()
    assert hidden.grad is not None and torch.isfinite(hidden.grad).all()


@pytest.mark.parametrize("per_chunk", [37 * 4, 1 << 20])
def test_nucleus_entropy_matches_the_sorted_reference(per_chunk: int) -> None:
    torch.manual_seed(0)
    hidden, weight = torch.randn(10, 8, requires_grad=True), torch.randn(37, 8)
    targets = torch.zeros(10, dtype=torch.long)
    options = {"entropy_grad": True, "logits_per_chunk": per_chunk, "top_p": 0.8}
    _, _, nucleus = token_logprobs(hidden, weight, targets, **options)
    exact = hidden.detach().double().requires_grad_()
    wants = []
    for logits in exact @ weight.double().T:
        probs = logits.softmax(-1).sort(descending=True).values
        count = int((probs.cumsum(0) < 0.8).sum()) + 1
        kept = probs[:count] / probs[:count].sum()
        wants.append(-(kept * kept.log()).sum())
    want = torch.stack(wants)
    assert nucleus is not None
    torch.testing.assert_close(nucleus.double(), want, rtol=1e-5, atol=1e-6)
    mix = torch.randn(10)
    got_grad = torch.autograd.grad((nucleus * mix).sum(), hidden)[0]
    want_grad = torch.autograd.grad((want * mix.double()).sum(), exact)[0]
    assert (got_grad.double() - want_grad).norm() / want_grad.norm() < 1e-5


def test_entropy_costs_no_gradient_unless_asked_for() -> None:
    hidden = torch.randn(3, 4, requires_grad=True)
    _, entropy, _ = token_logprobs(hidden, torch.randn(5, 4), torch.tensor([0, 1, 2]))
    assert not entropy.requires_grad


@given(st.lists(st.integers(1, 50), max_size=40), st.integers(1, 60))
def test_every_sequence_is_packed_once_and_under_the_budget(
    lengths: list[int], budget: int
) -> None:
    bins = first_fit_decreasing(lengths, budget)
    assert sorted(i for chosen in bins for i in chosen) == list(range(len(lengths)))
    assert all(sum(lengths[i] for i in chosen) <= budget or len(chosen) == 1 for chosen in bins)


MODELS = {
    "qwen2": (Qwen2Config, Qwen2ForCausalLM, {"tie_word_embeddings": True}),
    "qwen3": (Qwen3Config, Qwen3ForCausalLM, {"tie_word_embeddings": True, "head_dim": 8}),
    "llama": (LlamaConfig, LlamaForCausalLM, {"tie_word_embeddings": False}),
}


@pytest.mark.parametrize("family", MODELS)
def test_packed_sequences_do_not_see_each_other(family: str) -> None:
    config, build, extra = MODELS[family]
    torch.manual_seed(0)
    model = build(config(**COMMON, **extra)).eval()
    rows = [
        (0, [1, 2, 3], Completion([4, 5], [0.0] * 2, "", truncated=False)),
        (1, [6], Completion([7, 8, 9, 10], [0.0] * 4, "", truncated=False)),
    ]
    packed = pack(rows)
    with torch.no_grad():
        ids, positions = packed.input_ids[None], packed.position_ids[None]
        output = model.model(input_ids=ids, position_ids=positions, use_cache=False)
        hidden = output.last_hidden_state[0][packed.predict_at]
        got, *_ = token_logprobs(hidden, model.lm_head.weight, packed.targets)
        want = []
        for _, prompt, completion in rows:
            full = model(torch.tensor([prompt + completion.token_ids])).logits[0].log_softmax(-1)
            predicting = full[len(prompt) - 1 :]
            want += [predicting[t, token] for t, token in enumerate(completion.token_ids)]
    torch.testing.assert_close(got, torch.stack(want), rtol=0, atol=2e-6)
    assert packed.rows.tolist() == [0, 0, 1, 1, 1, 1]


@pytest.mark.parametrize("tokens", [1, 4, 5, 8])
@pytest.mark.parametrize("per_chunk", [7 * 4, 1 << 20])
@pytest.mark.parametrize("entropy_grad", [False, True])
def test_gradients_are_those_of_finite_differences_for_every_tail(
    tokens: int, per_chunk: int, entropy_grad: bool
) -> None:
    """One token, a full chunk, one token more, two chunks; logits kept, or computed again."""
    generator = torch.Generator().manual_seed(tokens)
    hidden, weight, bias = (
        torch.randn(*shape, dtype=torch.float64, generator=generator, requires_grad=True)
        for shape in ((tokens, 3), (7, 3), (7,))
    )
    targets = torch.randint(7, (tokens,), generator=generator)

    def outputs(hidden: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor) -> Any:
        options = {"entropy_grad": entropy_grad, "logits_per_chunk": per_chunk}
        logp, entropy, _ = token_logprobs(
            hidden, weight, targets, bias=bias, temperature=0.7, **options
        )
        return (logp, entropy) if entropy_grad else logp

    assert torch.autograd.gradcheck(outputs, (hidden, weight, bias))


def test_a_word_that_the_bias_rules_out_leaves_numbers() -> None:
    hidden, bias = torch.randn(3, 4, requires_grad=True), torch.tensor([0.0, 0.0, -torch.inf])
    weight, targets = torch.randn(3, 4), torch.tensor([0, 1, 0])
    logp, entropy, _ = token_logprobs(hidden, weight, targets, bias=bias, entropy_grad=True)
    (logp.sum() + entropy.sum()).backward()
    assert torch.isfinite(torch.cat([logp, entropy])).all()
    assert hidden.grad is not None and torch.isfinite(hidden.grad).all()
    assert float(entropy.detach().max()) <= 0.6932, "two words are left"


def test_only_the_weights_that_learn_get_a_gradient() -> None:
    hidden, weight = torch.randn(3, 4, requires_grad=True), torch.randn(5, 4)
    token_logprobs(hidden, weight, torch.tensor([0, 1, 2]))[0].sum().backward()
    assert hidden.grad is not None and weight.grad is None


@pytest.mark.parametrize("per_chunk", [1 << 20, 50 * 4])
def test_under_bf16_autocast_products_are_rounded_and_sums_are_not(per_chunk: int) -> None:
    """Against the float64 log-softmax of the very logits that a bf16 product gives."""
    torch.manual_seed(0)
    hidden, weight = torch.randn(10, 8, requires_grad=True), torch.randn(50, 8, requires_grad=True)
    targets = torch.randint(50, (10,))
    options = {"entropy_grad": True, "logits_per_chunk": per_chunk}
    with torch.autocast("cpu", torch.bfloat16):
        logp, entropy, _ = token_logprobs(hidden, weight, targets, **options)
    full = (hidden.bfloat16() @ weight.bfloat16().T).double().log_softmax(-1)
    assert logp.dtype == entropy.dtype == torch.float32
    want_logp = full.gather(1, targets[:, None])[:, 0]
    torch.testing.assert_close(logp.double(), want_logp, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(entropy.double(), -(full.exp() * full).sum(-1), rtol=1e-5, atol=1e-5)
    (logp.sum() + entropy.sum()).backward()
    got = torch.cat([hidden.grad.flatten(), weight.grad.flatten()])  # type: ignore[union-attr]
    exact = [x.detach().double().requires_grad_() for x in (hidden, weight)]
    reference = (exact[0] @ exact[1].T).log_softmax(-1)
    (reference.gather(1, targets[:, None]).sum() - (reference.exp() * reference).sum()).backward()
    want = torch.cat([x.grad.flatten() for x in exact])  # type: ignore[union-attr]
    assert (got - want).norm() / want.norm() < 0.02


def test_of_groups_without_a_gradient_every_other_rollout_stands_for_two() -> None:
    acting = torch.tensor([[True, False, False, False], [False] * 4, [False] * 4])
    rows = torch.tensor([0, 0, 1, 2, 3, 4, 5, 5, 6, 7, 8, 9, 11])  # rollout 10 is not learned from
    want = [1.0, 1, 1, 1, 2, 0, 2, 0, 1.5, 0, 0, 1.5]
    assert diagnostic_weights(rows, acting, 2).tolist() == want
    assert diagnostic_weights(rows.flip(0), acting, 2).tolist() == want, "however they are packed"
