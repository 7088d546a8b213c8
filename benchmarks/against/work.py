"""The same prompts and the same rewards for both sides."""

import hashlib
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from asym_lightning.types import Kind, Problem, Verdict
from asym_lightning.verify.countdown import CountdownVerifier

Rewards = Callable[[Sequence[str], Sequence[str], Sequence[bool]], list[float]]


def uniform(*parts: str) -> float:
    """A number from 0 to below 1 that depends on the parts alone."""
    digest = hashlib.blake2b("\0".join(parts).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") / 2**64


def rewards_of(signal: str, own_task: bool) -> Rewards:
    """Rewards of completions, from their reference answers and truncation.

    A prompt without a reference answer has its name in that place. A completion is truncated if the
    token limit ended it.

    ``all``: a number of its own for each completion, so that every group has a signal.
    ``realistic``: correct with a probability that belongs to the prompt and is uniform from 0 to 1
    over prompts, so that 2/(G+1) of the groups are all correct or all wrong (22% at G = 8); for the
    embedded policy, whether its answer is correct.
    """
    if signal == "realistic" and own_task:
        return lambda texts, answers, cut: [
            verdict.reward for verdict in CountdownVerifier().score(texts, answers, cut)
        ]

    def reward(text: str, answer: str) -> float:
        score = uniform("completion", answer, text)
        return score if signal == "all" else float(score < uniform("accuracy", answer))

    return lambda texts, answers, cut: [
        reward(text, answer) for text, answer in zip(texts, answers, strict=True)
    ]


def read_problems(path: str | Path) -> list[Problem]:
    """The problems of a file made by ``prepare``."""
    return [Problem(**json.loads(line)) for line in Path(path).read_text().splitlines()]


def without_signal(rewards: Sequence[float], group: int) -> float:
    """Share of the groups whose rewards are all equal."""
    groups = [rewards[i : i + group] for i in range(0, len(rewards), group)]
    return sum(len(set(one)) == 1 for one in groups) / len(groups)


class RewardVerifier:
    """The rewards as our verifier protocol has them."""

    def __init__(self, rewards: Rewards):
        self.rewards = rewards

    def score(
        self, completions: Sequence[str], answers: Sequence[str], truncated: Sequence[bool]
    ) -> list[Verdict]:
        rewards = self.rewards(completions, answers, truncated)
        return [Verdict(reward, Kind.CORRECT if reward > 0.5 else Kind.WRONG) for reward in rewards]

    def close(self) -> None:
        pass


class Work:
    """The benchmark's prompts as a task of ours."""

    name = "against_trl"
    notes: Sequence[str] = ()
    heldout: Sequence[Problem] = ()

    def __init__(self, path: str, signal: str, own_task: bool):
        self.train = read_problems(path)
        self.rewards = rewards_of(signal, own_task)

    def verifier(self) -> RewardVerifier:
        return RewardVerifier(self.rewards)

    def encode(self, problem: Problem, tokenizer: Any) -> list[int]:
        return list(tokenizer.encode(problem.text, add_special_tokens=False))
