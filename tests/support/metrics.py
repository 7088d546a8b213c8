"""Verdicts, groups of rollouts, and the values of a meter."""

import random

import torch

from asym_lightning.runtime.meter import Meter
from asym_lightning.types import Completion, Kind, Problem, Prompt, RolloutGroup, Verdict


def group(*verdicts: Verdict) -> RolloutGroup:
    """A group of one rollout per verdict; rollout i has i + 1 tokens."""
    prompt = Prompt(Problem("p", "text", "answer"), (1, 2))
    completions = []
    for length, verdict in enumerate(verdicts, 1):
        truncated = verdict.kind is Kind.TRUNCATED
        completions.append(Completion([1] * length, [0.0] * length, "", truncated))
    return RolloutGroup(prompt, completions, list(verdicts))


RIGHT, WRONG = Verdict(1.0, Kind.CORRECT, "1+1"), Verdict(0.0, Kind.WRONG, "1+2")


def compute(meter: Meter) -> dict[str, float]:
    return meter.compute(lambda tensor, how: tensor, torch.device("cpu"))


def many_groups(count: int, samples: int) -> list[RolloutGroup]:
    """Groups of every kind, answers in several classes, completions of different lengths."""
    draw, groups = random.Random(0), []
    classes = {Kind.CORRECT: "rs", Kind.WRONG: "xyz"}
    incorrect = [kind for kind in Kind if kind is not Kind.CORRECT]
    for i in range(count):
        accuracy = draw.random()
        kinds = [
            Kind.CORRECT if draw.random() < accuracy else draw.choice(incorrect)
            for _ in range(samples)
        ]
        verdicts = []
        for kind in kinds:
            answer = draw.choice(classes[kind]) if kind in classes else None
            verdicts.append(Verdict(float(kind is Kind.CORRECT), kind, answer))
        completions = []
        for kind in kinds:
            length = draw.randint(1, 9)
            truncated = kind is Kind.TRUNCATED
            completions.append(Completion([1] * length, [0.0] * length, "", truncated))
        prompt = Prompt(Problem(str(i), "", ""), (1,))
        groups.append(RolloutGroup(prompt, completions, verdicts))
    return groups
