"""The cases of benchmarks/learner.py: models, rollouts, the steps to time, and peak memory."""

import argparse
import threading
from collections.abc import Callable
from typing import Any

import torch

SIZES = {
    "0.5M": {
        "hidden_size": 128,
        "num_hidden_layers": 2,
        "intermediate_size": 512,
        "num_attention_heads": 4,
        "head_dim": 32,
    },
    "15M": {
        "hidden_size": 384,
        "num_hidden_layers": 8,
        "intermediate_size": 1152,
        "num_attention_heads": 6,
        "head_dim": 64,
    },
    "0.6B": {
        "hidden_size": 1024,
        "num_hidden_layers": 28,
        "intermediate_size": 3072,
        "num_attention_heads": 16,
        "head_dim": 128,
    },
    "1.7B": {
        "hidden_size": 2048,
        "num_hidden_layers": 28,
        "intermediate_size": 6144,
        "num_attention_heads": 16,
        "head_dim": 128,
    },
}


def model_of(size: str, vocabulary: int, device: str) -> Any:
    """A random Qwen3, tied, its body of the given size."""
    from transformers import Qwen3Config, Qwen3ForCausalLM

    torch.manual_seed(0)
    shape = SIZES[size]
    config = Qwen3Config(
        vocab_size=vocabulary,
        num_key_value_heads=shape["num_attention_heads"] // 2,
        max_position_embeddings=65536,
        tie_word_embeddings=True,
        attn_implementation="sdpa",
        **shape,
    )
    with torch.device(device):
        return Qwen3ForCausalLM(config)


def rollouts(
    groups: int, size: int, prompt: int, longest: int, vocabulary: int, fixed: bool = False
) -> Any:
    """Groups of random tokens with mixed rewards.

    Lengths are log-normal around a quarter of ``longest`` and cut there, or all ``longest`` if
    ``fixed``.
    """
    from asym_lightning.types import Completion, Kind, Problem, Prompt, RolloutGroup, Verdict

    generator = torch.Generator().manual_seed(0)
    lengths = (torch.randn(groups, size, generator=generator) * 0.8).exp() * longest / 4
    lengths = torch.full_like(lengths, longest) if fixed else lengths.clamp(1, longest)

    def ids(n: int) -> list[int]:
        return torch.randint(vocabulary, (n,), generator=generator).tolist()

    kinds = [Kind.CORRECT if i % 2 else Kind.WRONG for i in range(size)]
    verdicts = [Verdict(float(kind is Kind.CORRECT), kind) for kind in kinds]
    rollout_groups = []
    for g in range(groups):
        completions = [Completion(ids(int(n)), [0.0] * int(n), "", False) for n in lengths[g]]
        problem = Prompt(Problem(str(g), "", ""), tuple(ids(prompt)))
        rollout_groups.append(RolloutGroup(problem, completions, list(verdicts)))
    return rollout_groups


def ours(given: argparse.Namespace) -> tuple[Callable[[], float], int]:
    """A step with the policy's own scoring and packing, and the number of completion tokens."""
    from asym_lightning.algorithms import Algorithm, BetaFamily, PPOClip, TokenMean
    from asym_lightning.learner.optimizer import OptimizerSettings
    from asym_lightning.learner.packing import micro_batches
    from asym_lightning.learner.policy import PolicyModule

    groups = rollouts(
        given.groups, given.group_size, given.prompt, given.longest, given.vocabulary, given.fixed
    )
    method = Algorithm("bench", BetaFamily(0.9, 0.4), PPOClip(), TokenMean())
    model = model_of(given.size, given.vocabulary, given.device)
    policy = PolicyModule(model, method, OptimizerSettings(1e-6), 1.0, 1.0, given.checkpointing)
    everyone = [True] * (given.groups * given.group_size)
    packed = micro_batches(groups, given.budget, everyone, share_prompts=not given.apart)
    micros = [micro.to(torch.device(given.device)) for micro in packed]
    count = sum(micro.targets.numel() for micro in micros)

    useful = count + sum(len(g.prompt.token_ids) - len(g.completions) for g in groups)

    def step() -> float:
        policy.zero_grad(set_to_none=True)
        for micro in micros:
            with torch.autocast(given.device, torch.bfloat16, enabled=given.bf16):
                scores = policy.score(micro)
            ((scores.logp * (micro.rows % 2 * 2 - 1)).sum() / count).backward()
        return 1 - useful / sum(micro.input_ids.numel() for micro in micros)

    return step, count


def plain(given: argparse.Namespace) -> tuple[Callable[[], float], int]:
    """A step over padded rows with full logits, and the number of completion tokens.

    Rows are padded to the longest of their micro-batch. Entropy is for the metric only.
    """
    groups = rollouts(
        given.groups, given.group_size, given.prompt, given.longest, given.vocabulary, given.fixed
    )
    model = model_of(given.size, given.vocabulary, given.device).train()
    if given.checkpointing:
        model.gradient_checkpointing_enable({"use_reentrant": False})
    rows = [
        ([*g.prompt.token_ids, *c.token_ids], len(c.token_ids), i % 2 * 2 - 1)
        for g in groups
        for i, c in enumerate(g.completions)
    ]
    count = sum(n for _, n, _ in rows)
    per_micro = max(1, given.budget // (given.prompt + given.longest))
    micros = []
    for part in (rows[i : i + per_micro] for i in range(0, len(rows), per_micro)):
        width = max(len(ids) for ids, _, _ in part)
        ids = torch.tensor([ids + [0] * (width - len(ids)) for ids, _, _ in part])
        seen = torch.tensor([[1] * len(ids) + [0] * (width - len(ids)) for ids, _, _ in part])
        scored = torch.tensor(
            [[0] * (len(ids) - n) + [1] * n + [0] * (width - len(ids)) for ids, n, _ in part]
        )
        sign = torch.tensor([sign for _, _, sign in part])
        micros.append([x.to(given.device) for x in (ids, seen, scored, sign)])
    computed = sum(m[0].numel() for m in micros)
    useful = count + sum(len(g.prompt.token_ids) - len(g.completions) for g in groups)

    def step() -> float:
        model.zero_grad(set_to_none=True)
        for ids, seen, scored, sign in micros:
            with torch.autocast(given.device, torch.bfloat16, enabled=given.bf16):
                logits = model(input_ids=ids, attention_mask=seen, use_cache=False).logits[:, :-1]
            full = logits.float().log_softmax(-1)
            logp = full.gather(-1, ids[:, 1:, None])[..., 0]
            with torch.no_grad():
                -(full.exp() * full).sum(-1)
            ((logp * sign[:, None] * scored[:, 1:]).sum() / count).backward()
        return 1 - useful / computed

    return step, count


def head(given: argparse.Namespace) -> tuple[Callable[[], float], int]:
    """Log-prob and entropy with gradients, from hidden states and an output head alone."""
    from asym_lightning.learner.logprob import token_logprobs

    n, v, d = given.budget, given.vocabulary, SIZES[given.size]["hidden_size"]
    torch.manual_seed(0)
    kind = torch.bfloat16 if given.bf16 else torch.float32
    hidden = torch.randn(n, d, device=given.device, dtype=kind).requires_grad_()
    weight = (torch.randn(v, d, device=given.device, dtype=kind) * 0.05).requires_grad_()
    targets = torch.randint(v, (n,), device=given.device)

    def chunked() -> float:
        hidden.grad = weight.grad = None
        logp, entropy, _ = token_logprobs(hidden, weight, targets, entropy_grad=True)
        (logp.mean() + entropy.mean()).backward()
        return 0.0

    def full() -> float:
        hidden.grad = weight.grad = None
        logits = (hidden @ weight.T).float().log_softmax(-1)
        entropy = -(logits.exp() * logits).sum(-1)
        (logits.gather(1, targets[:, None]).mean() + entropy.mean()).backward()
        return 0.0

    return full if given.what == "full" else chunked, n


class Peak:
    """Peak memory of the block minus the memory held before it (bytes)."""

    def __init__(self, device: str):
        import psutil

        self.device, self.process = device, psutil.Process()

    def __enter__(self) -> "Peak":
        self.done = threading.Event()
        if self.device == "cuda":
            torch.cuda.reset_peak_memory_stats()
            self.before = torch.cuda.memory_allocated()
        else:
            self.before = self.most = self.process.memory_info().rss
            self.thread = threading.Thread(target=self._watch, daemon=True)
            self.thread.start()
        return self

    def _watch(self) -> None:
        while not self.done.wait(0.005):
            self.most = max(self.most, self.process.memory_info().rss)

    def __exit__(self, *_: Any) -> None:
        self.done.set()
        if self.device == "cuda":
            self.most = torch.cuda.max_memory_allocated()
        else:
            self.thread.join()
        self.bytes = self.most - self.before
