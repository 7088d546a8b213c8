"""From prompts to verified completions: what training and evaluation share."""

from collections.abc import Sequence
from typing import Any

from asym_lightning.rollout.base import RolloutEngine, Sampling
from asym_lightning.types import Completion, Prompt, RolloutGroup
from asym_lightning.verify.base import Verifier


def sample(
    engine: RolloutEngine, tokenizer: Any, prompts: Sequence[Prompt], sampling: Sampling, seeds: Sequence[int]
) -> list[list[Completion]]:
    """Generate and decode ``sampling.n`` completions for each prompt."""
    drawn = engine.generate([p.token_ids for p in prompts], sampling, seeds)
    texts = iter(tokenizer.batch_decode([s.token_ids for samples in drawn for s in samples], skip_special_tokens=True))
    return [[Completion(s.token_ids, s.logprobs, next(texts), s.truncated, s.version) for s in samples] for samples in drawn]


def verify(verifier: Verifier, prompts: Sequence[Prompt], drawn: Sequence[Sequence[Completion]]) -> list[RolloutGroup]:
    """Score every completion against its prompt's reference answer."""
    flat = [(c, p.problem.answer) for p, completions in zip(prompts, drawn, strict=True) for c in completions]
    verdicts = iter(verifier.score([c.text for c, _ in flat], [a for _, a in flat], [c.truncated for c, _ in flat]))
    return [RolloutGroup(p, list(cs), [next(verdicts) for _ in cs]) for p, cs in zip(prompts, drawn, strict=True)]


def rows(groups: Sequence[RolloutGroup]) -> list[dict[str, Any]]:
    """One row per completion, as Parquet files of rollouts and of evaluations hold them."""
    return [
        {
            "problem": group.prompt.problem.id,
            "prompt": group.prompt.problem.text,
            "reference": group.prompt.problem.answer,
            "completion": completion.text,
            "tokens": len(completion.token_ids),
            "truncated": completion.truncated,
            "version": completion.version,
            "reward": verdict.reward,
            "kind": str(verdict.kind),
            "answer": verdict.answer,
            "detail": verdict.detail,
        }
        for group in groups
        for completion, verdict in zip(group.completions, group.verdicts, strict=True)
    ]
