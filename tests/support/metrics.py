"""Verdicts, groups made of them, and what a meter says."""

import random

import torch

from asym_lightning.runtime.meter import Meter
from asym_lightning.types import Completion, Kind, Problem, Prompt, RolloutGroup, Verdict


def group(*verdicts: Verdict) -> RolloutGroup:
    prompt = Prompt(Problem("p", "text", "answer"), (1, 2))
    completions = [Completion([1] * (i + 1), [0.0] * (i + 1), "", verdict.kind is Kind.TRUNCATED) for i, verdict in enumerate(verdicts)]
    return RolloutGroup(prompt, completions, list(verdicts))


RIGHT, WRONG = Verdict(1.0, Kind.CORRECT, "1+1"), Verdict(0.0, Kind.WRONG, "1+2")


def compute(meter: Meter) -> dict[str, float]:
    return meter.compute(lambda tensor, how: tensor, torch.device("cpu"))


def many_groups(count: int, samples: int) -> list[RolloutGroup]:
    """Groups of every kind, answers in several classes, completions of different lengths."""
    draw, made = random.Random(0), []
    for i in range(count):
        right, kinds = draw.random(), [kind for kind in Kind if kind is not Kind.CORRECT]
        chosen = [Kind.CORRECT if draw.random() < right else draw.choice(kinds) for _ in range(samples)]
        answers = {Kind.CORRECT: "rs", Kind.WRONG: "xyz"}
        verdicts = [Verdict(float(k is Kind.CORRECT), k, draw.choice(answers[k]) if k in answers else None) for k in chosen]
        lengths = [draw.randint(1, 9) for _ in chosen]
        completions = [Completion([1] * n, [0.0] * n, "", k is Kind.TRUNCATED) for n, k in zip(lengths, chosen, strict=True)]
        made.append(RolloutGroup(Prompt(Problem(str(i), "", ""), (1,)), completions, verdicts))
    return made
