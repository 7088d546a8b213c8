"""Packed attention against plain rows, in every family of models.

No sequence sees another one, and shared prompts change nothing.
"""

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from lightning import LightningModule
from transformers import BloomConfig, BloomForCausalLM, GPT2Config, GPT2LMHeadModel

from asym_lightning.learner.attention import (
    Layout,
    Segment,
    flash,
    packed_attention,
    use_packed_attention,
)
from asym_lightning.learner.batch import PackedBatch
from asym_lightning.learner.packing import (
    first_fit_decreasing,
    micro_batches,
    pack,
    pack_bins,
    pack_units,
)
from asym_lightning.types import Completion, RolloutGroup
from tests.support.models import MODELS, VOCABULARY, build, policy_of
from tests.support.parts import random_groups


def reference(
    model: Any, groups: list[RolloutGroup]
) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """Log-probs of all completion tokens and the gradients of their weighted sum.

    Each row goes through the plain model on its own.
    """
    model.config._attn_implementation = "eager"
    logp = []
    for group in groups:
        prompt = list(group.prompt.token_ids)
        for completion in group.completions:
            full = model(torch.tensor([prompt + completion.token_ids])).logits[0].log_softmax(-1)
            predicting = full[len(prompt) - 1 :]
            logp += [predicting[t, token] for t, token in enumerate(completion.token_ids)]
    values = torch.stack(logp)
    (values * weights(len(values))).sum().backward()
    return values.detach(), {name: p.grad for name, p in model.named_parameters()}


def weights(count: int) -> torch.Tensor:
    return torch.linspace(-1, 1, count)


@pytest.mark.parametrize("budget", [10_000, 30])
@pytest.mark.parametrize("share", [True, False])
@pytest.mark.parametrize("family", MODELS)
def test_packed_rollouts_score_and_learn_as_rows_of_their_own(
    family: str, share: bool, budget: int
) -> None:
    groups = random_groups(5, 4, VOCABULARY)
    want, grads = reference(build(family), groups)
    policy = policy_of(build(family))
    assert policy.packed
    micros = micro_batches(groups, budget, [True] * 20, share_prompts=share)
    got = torch.zeros_like(want)
    starts = torch.tensor([0, *(len(c.token_ids) for g in groups for c in g.completions)]).cumsum(0)
    for micro in micros:
        logp = policy.score(micro).logp
        rows = micro.rows.unique_consecutive()
        at = torch.cat([torch.arange(starts[row], starts[row + 1]) for row in rows])
        got[at] = logp.detach()
        (logp * weights(len(want))[at]).sum().backward()
    torch.testing.assert_close(got, want, rtol=0, atol=3e-6)
    got_grad = torch.cat([p.grad.flatten() for p in policy.model.parameters()])
    want_grad = torch.cat([grad.flatten() for grad in grads.values()])
    assert (got_grad - want_grad).norm() / want_grad.norm() < 1e-5


def test_a_shared_prompt_is_computed_once_and_the_last_token_never() -> None:
    group = random_groups(1, 4, VOCABULARY)[0]
    prompt, lengths = len(group.prompt.token_ids), [len(c.token_ids) for c in group.completions]
    [shared] = micro_batches([group], 10_000, [True] * 4, share_prompts=True)
    [apart] = micro_batches([group], 10_000, [True] * 4)
    assert shared.input_ids.numel() == prompt + sum(lengths) - 4
    assert apart.input_ids.numel() == 4 * (prompt - 1) + sum(lengths)
    completion_tokens = [t for c in group.completions for t in c.token_ids]
    assert shared.targets.tolist() == apart.targets.tolist() == completion_tokens


def test_a_group_is_parted_only_where_it_does_not_fit() -> None:
    prompt = random_groups(1, 4, VOCABULARY)[0].prompt
    completions = [Completion([1] * n, [0.0] * n, "", truncated=False) for n in (6, 6, 6, 1)]
    group = RolloutGroup(prompt, completions, [])
    budget = len(prompt.token_ids) + 10
    micros = micro_batches([group], budget, [True] * 4, share_prompts=True)
    assert all(m.input_ids.numel() <= budget for m in micros)
    assert sorted(row for m in micros for row in set(m.rows.tolist())) == [0, 1, 2, 3]
    assert len(micros) == 2


@given(st.lists(st.integers(1, 50), max_size=30), st.integers(20, 60), st.integers(0, 12))
def test_bins_are_under_the_budget_as_few_as_they_can_be_and_even(
    sizes: list[int], budget: int, at_least: int
) -> None:
    parts = [
        [(i, [0] * size, Completion([1], [0.0], "", truncated=False))]
        for i, size in enumerate(sizes)
    ]
    bins, few = pack_bins(parts, budget, at_least), first_fit_decreasing(sizes, budget)
    assert sorted(i for chosen in bins for i in chosen) == list(range(len(sizes)))
    assert len(few) <= len(bins) <= max(len(few), at_least)

    def largest(packing: list[list[int]]) -> int:
        return max((sum(sizes[i] for i in chosen) for chosen in packing), default=0)

    assert largest(bins) <= max(largest(few), 1)
    assert all(sum(sizes[i] for i in chosen) <= budget or len(chosen) == 1 for chosen in bins)


def test_sequences_spread_evenly_over_the_micro_batches_that_another_rank_needs() -> None:
    parts = [[(i, [0] * 10, Completion([1], [0.0], "", truncated=False))] for i in range(6)]
    assert [m.input_ids.numel() for m in pack_units(parts, 40)] == [30, 30]
    assert [m.input_ids.numel() for m in pack_units(parts, 40, count=3)] == [20, 20, 20]
    assert [m.targets.numel() for m in pack_units(parts[:1], 40, count=2)] == [1, 0]


@given(lengths=st.lists(st.integers(2, 30), min_size=1, max_size=20), budget=st.integers(30, 90))
def test_padded_rows_fit_the_budget(lengths: list[int], budget: int) -> None:
    drawn = Completion([1, 2], [0.0, 0.0], "", truncated=False)
    units = [[(i, [1] * (n - 1), drawn)] for i, n in enumerate(lengths)]
    for micro in pack_units(units, budget, padded=True):
        assert micro.layout is not None
        rows = [segment.length for segment in micro.layout.segments]
        assert len(rows) * max(rows) <= budget or len(rows) == 1


def test_one_token_completions_need_their_prompt_only() -> None:
    rows = [(i, (1, 2, 3), Completion([4 + i], [0.0], "", truncated=False)) for i in range(3)]
    batch = pack(rows, share_prompts=True)
    assert batch.input_ids.tolist() == [1, 2, 3]
    assert batch.predict_at.tolist() == [2, 2, 2]
    assert policy_of(build("qwen3")).score(batch).logp.shape == (3,)


def test_gradient_checkpointing_keeps_the_layout() -> None:
    groups = random_groups(2, 4, VOCABULARY)
    grads = []
    for checkpointing in (False, True):
        policy = policy_of(build("qwen3"), gradient_checkpointing=checkpointing)
        for micro in micro_batches(groups, 10_000, [True] * 8, share_prompts=True):
            policy.score(micro).logp.sum().backward()
        grads.append(torch.cat([p.grad.flatten() for p in policy.model.parameters()]))
    torch.testing.assert_close(grads[0], grads[1])


def test_models_whose_attention_cannot_be_replaced_keep_their_own() -> None:
    alibi = BloomForCausalLM(BloomConfig(vocab_size=40, hidden_size=32, n_layer=1, n_head=4))
    assert not use_packed_attention(alibi)
    assert alibi.config._attn_implementation != "asym_packed"
    with pytest.raises(ValueError, match="needs layout="):
        policy_of(build("qwen3")).model(torch.tensor([[1, 2]]))


def test_a_model_with_its_own_attention_is_packed_without_shared_prompts() -> None:
    torch.manual_seed(0)
    groups = random_groups(2, 3, VOCABULARY)
    sizes = {"vocab_size": VOCABULARY, "n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 128}
    no_dropout = {"resid_pdrop": 0, "embd_pdrop": 0, "attn_pdrop": 0}
    model = GPT2LMHeadModel(GPT2Config(**sizes, **no_dropout))
    want, _ = reference(model, groups)
    policy = policy_of(model)
    policy.packed = False
    model.config._attn_implementation = "sdpa"
    [micro] = micro_batches(groups, 10_000, [True] * 6)
    torch.testing.assert_close(policy.score(micro).logp, want, rtol=0, atol=3e-6)


SEGMENTS = st.lists(
    st.tuples(st.integers(1, 9), st.lists(st.integers(1, 9), max_size=3)), min_size=1, max_size=6
)


def laid_out(groups: list[tuple[int, list[int]]]) -> Layout:
    segments: list[Segment] = []
    offset = 0
    for prompt, completions in groups:
        start = offset
        segments.append(Segment(start, prompt))
        offset += prompt
        for length in completions:
            segments.append(Segment(offset, length, start, prefix=prompt))
            offset += length
    return Layout(segments)


def dense(
    q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, layout: Layout, window: int | None
) -> torch.Tensor:
    """Attention with a [S, S] mask written down segment by segment."""
    seen = torch.zeros(layout.tokens, layout.tokens, dtype=torch.bool)
    for s in layout.segments:
        prefix = range(s.prefix_start, s.prefix_start + s.prefix)
        keys = [*prefix, *range(s.start, s.start + s.length)]
        for i in range(s.length):
            inside = keys[: s.prefix + i + 1]
            seen[s.start + i, inside[-window:] if window else inside] = True
    heads = q.shape[1] // k.shape[1]
    k, v = k.repeat_interleave(heads, 1), v.repeat_interleave(heads, 1)
    scores = torch.einsum("ihd,jhd->hij", q, k) * q.shape[-1] ** -0.5
    return torch.einsum("hij,jhd->ihd", scores.masked_fill(~seen, -torch.inf).softmax(-1), v)


def per_segment(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    cu_q: torch.Tensor,
    cu_k: torch.Tensor,
    max_q: int,
    max_k: int,
    scale: float | None,
    window_size: tuple[int, int],
    enable_gqa: bool = False,
) -> torch.Tensor:
    """Variable-length attention, segment by segment, causal to the last query and key."""
    out = []
    behind, ahead = window_size
    assert ahead == 0 and enable_gqa == (q.shape[1] != k.shape[1])
    assert max_q == int(cu_q.diff().max()) and max_k == int(cu_k.diff().max())
    for a, b, c, d in zip(cu_q, cu_q[1:], cu_k, cu_k[1:], strict=False):
        at, column = torch.arange(d - c - (b - a), d - c)[:, None], torch.arange(d - c)[None]
        mask = (column <= at) & ((column >= at - behind) if behind >= 0 else True)
        parts = (x[s:e].transpose(0, 1)[None] for x, s, e in ((q, a, b), (k, c, d), (v, c, d)))
        attended = torch.nn.functional.scaled_dot_product_attention(
            *parts, attn_mask=mask, scale=scale, enable_gqa=enable_gqa
        )
        out.append(attended[0].transpose(0, 1))
    return torch.cat(out)


def per_segment_alike(
    *given: Any, scale: float | None, window_size: tuple[int, int]
) -> torch.Tensor:
    """The same for equal numbers of key and query heads: torch 2.11 has no other form."""
    return per_segment(*given, scale, window_size)


@settings(deadline=None, max_examples=40)
@given(SEGMENTS, st.sampled_from([None, 1, 4]), st.integers(0, 2**31))
def test_buckets_and_the_flat_form_are_the_dense_mask(
    groups: list[tuple[int, list[int]]], window: int | None, seed: int
) -> None:
    layout = laid_out(groups)
    generator = torch.Generator().manual_seed(seed)
    q, k, v = (
        torch.randn(layout.tokens, heads, 8, generator=generator, requires_grad=True)
        for heads in (4, 2, 2)
    )
    want = dense(q, k, v, layout, window)
    batched = [x.transpose(0, 1)[None] for x in (q, k, v)]
    got, _ = packed_attention(None, *batched, None, sliding_window=window, layout=layout)
    torch.testing.assert_close(got[0], want, rtol=1e-5, atol=1e-5)
    for kernel in (per_segment, per_segment_alike):
        flat = flash(kernel, q, k, v, layout=layout, scaling=None, window=window)
        torch.testing.assert_close(flat, want, rtol=1e-5, atol=1e-5)
    mix = torch.randn(want.shape, generator=generator)
    got_grads = torch.autograd.grad((got[0] * mix).sum(), (q, k, v))
    want_grads = torch.autograd.grad((want * mix).sum(), (q, k, v))
    for got_grad, want_grad in zip(got_grads, want_grads, strict=True):
        torch.testing.assert_close(got_grad, want_grad, rtol=1e-4, atol=1e-5)


def test_an_empty_micro_batch_has_one_token_and_a_gradient() -> None:
    policy = policy_of(build("qwen3"))
    empty: PackedBatch = pack([])
    assert empty.layout is not None and empty.layout.tokens == 1
    scores = policy.score(empty)
    assert scores.logp.shape == (0,)
    assert isinstance(policy, LightningModule)
