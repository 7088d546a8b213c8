"""The answering of a set of problems, the same in training and in `evaluate.py`."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from asym_lightning.checks import number, positive_int
from asym_lightning.rollout import groups
from asym_lightning.rollout.base import RolloutEngine, Sampling, sampling_seed
from asym_lightning.tasks.base import PromptSet
from asym_lightning.types import ConfigError, RolloutGroup
from asym_lightning.verify.base import Verifier


def samples_of(samples: int | Mapping[str, int], name: str) -> int:
    """Completions per problem of a set: one number for all sets, or one for each by name."""
    return samples[name] if isinstance(samples, Mapping) else samples


def check_sampling(samples: Any, temperature: Any, names: Iterable[str], prefix: str = "") -> None:
    """Refuse numbers of samples and temperatures that cannot work for these sets.

    Raises:
        ConfigError: one line that names the key, which begins with ``prefix``.
    """
    number(f"{prefix}temperature", temperature, 0)
    for name in names:
        if isinstance(samples, Mapping) and name not in samples:
            raise ConfigError(
                f"{prefix}samples has no number for {name}; give one for every set, or one number "
                "for all"
            )
        n = samples_of(samples, name)
        positive_int(f"{prefix}samples" + (f".{name}" if isinstance(samples, Mapping) else ""), n)
        if temperature == 0 and n > 1:
            raise ConfigError(
                f"{prefix}temperature=0 is greedy: all {n} samples would be the same; "
                f"use {prefix}samples=1"
            )


def answer(
    engine: RolloutEngine,
    tokenizer: Any,
    prompt_set: PromptSet,
    numbers: Sequence[int],
    verifier: Verifier,
    sampling: Sampling,
    seed: int,
) -> list[RolloutGroup]:
    """Sample and verify completions of the prompts with these numbers.

    ``numbers`` may be empty: ranks that share an engine must call it equally often. A prompt's
    sampling seed depends on ``seed`` and its number alone.
    """
    prompts = [prompt_set.prompts[i] for i in numbers]
    seeds = [sampling_seed(seed, "eval", i) for i in numbers]
    completions = groups.sample(engine, tokenizer, prompts, sampling=sampling, seeds=seeds)
    return groups.verify(verifier, prompts, completions) if prompts else []
