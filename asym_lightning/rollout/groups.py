"""From prompts to verified completions, for training and evaluation alike."""

from collections.abc import Sequence
from typing import Any

from asym_lightning.rollout.base import RolloutEngine, Sample, Sampling
from asym_lightning.runtime.characters import clean_text
from asym_lightning.types import Completion, Prompt, RolloutGroup
from asym_lightning.verify.base import Verifier


def sample(
    engine: RolloutEngine,
    tokenizer: Any,
    prompts: Sequence[Prompt],
    sampling: Sampling,
    seeds: Sequence[int],
) -> list[list[Completion]]:
    """Generate and decode ``sampling.n`` completions for each prompt.

    Their texts have every token but the one that ended them: a tag such as ``</think>`` may be a
    special token, and verifiers need it.
    """
    samples = engine.generate([prompt.token_ids for prompt in prompts], sampling, seeds)
    token_ids = [without_end(drawn, sampling.stop_ids) for row in samples for drawn in row]
    texts = iter(tokenizer.batch_decode(token_ids, skip_special_tokens=False))
    return [[_completion(drawn, next(texts)) for drawn in row] for row in samples]


def without_end(drawn: Sample, stop_ids: Sequence[int]) -> list[int]:
    """The tokens of a sample without the token that ended it, if one did."""
    ended = bool(drawn.token_ids) and not drawn.truncated and drawn.token_ids[-1] in stop_ids
    return drawn.token_ids[:-1] if ended else drawn.token_ids


def _completion(drawn: Sample, text: str) -> Completion:
    return Completion(
        drawn.token_ids, drawn.logprobs, text, truncated=drawn.truncated, version=drawn.version
    )


def verify(
    verifier: Verifier, prompts: Sequence[Prompt], completions: Sequence[Sequence[Completion]]
) -> list[RolloutGroup]:
    """Score every completion against its prompt's reference answer."""
    texts, references, truncated = [], [], []
    for prompt, row in zip(prompts, completions, strict=True):
        for completion in row:
            texts.append(prompt.opening + completion.text)
            references.append(prompt.problem.answer)
            truncated.append(completion.truncated)
    verdicts = iter(verifier.score(texts, references, truncated))
    return [
        RolloutGroup(prompt, list(row), [next(verdicts) for _ in row])
        for prompt, row in zip(prompts, completions, strict=True)
    ]


def rows(groups: Sequence[RolloutGroup]) -> list[dict[str, Any]]:
    """One row per completion, as Parquet files of rollouts and of evaluations hold them.

    A policy, and a verifier that quotes it, may write what is no character; no file takes that.
    """
    return [
        {
            "problem": clean_text(group.prompt.problem.id),
            "prompt": clean_text(group.prompt.problem.text),
            "reference": clean_text(group.prompt.problem.answer),
            "completion": clean_text(completion.text),
            "tokens": len(completion.token_ids),
            "truncated": completion.truncated,
            "version": completion.version,
            "reward": verdict.reward,
            "kind": str(verdict.kind),
            "answer": None if verdict.answer is None else clean_text(verdict.answer),
            "text": None if verdict.text is None else clean_text(verdict.text),
            "detail": clean_text(verdict.detail),
        }
        for group in groups
        for completion, verdict in zip(group.completions, group.verdicts, strict=True)
    ]
