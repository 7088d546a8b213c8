"""Metrics of two ranks."""

import warnings

import torch

from asym_lightning.metrics.evaluation import EvaluationMetric
from asym_lightning.metrics.rollouts import measure_groups
from asym_lightning.runtime.meter import Meter
from asym_lightning.runtime.ranks import reduce_over_ranks
from asym_lightning.types import Kind, Verdict
from tests.support.metrics import RIGHT, WRONG, group, many_groups
from tests.support.ranks import as_rank, pair


def evaluated(rank: int, world: int, samples: int, shares: list[list[int]]) -> dict[str, float]:
    """The metrics of all problems, as this rank computes them from its share and the others'."""
    groups, metric = many_groups(11, samples), EvaluationMetric(samples)
    for number in shares[rank]:
        metric.update(groups[number])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of a rank without problems
        return metric.compute()


def test_two_ranks_with_uneven_shares_say_what_one_says() -> None:
    samples = 7
    alone = evaluated(0, 1, samples, [list(range(11))])
    names = {"avg@7", "pass@1", "pass@2", "pass@4", "pass@7", "maj@7", "distinct_correct"}
    assert set(alone) >= names | {"length/mean", "length/truncated"}
    assert 0 < alone["maj@7"] < 1
    assert 0 < alone["pass@1"] < alone["pass@2"] < alone["pass@7"]
    assert all(alone[f"verify/{kind}"] for kind in Kind)
    for shares in ([[3, 0, 10, 7, 1, 9, 2, 4], [8, 6, 5]], [[], list(range(10, -1, -1))]):
        assert pair()(as_rank, evaluated, samples, shares) == [alone, alone], "to the last digit"


def parts_of_a_rank(rank: int, world: int) -> dict[str, float]:
    """The metrics of a mixture of tasks: rewards with parts are on rank 0, the others on rank 1.

    One process has both.
    """
    graded = [
        Verdict(1.5, Kind.CORRECT, "1", parts={"correctness": 1.0, "format": 1.0}),
        Verdict(0.0, Kind.WRONG, "2", parts={"correctness": 0.0, "format": 0.5}),
    ]
    drawn = [group(*graded)] if rank == 0 else [group(RIGHT, WRONG)]
    if world == 1:
        drawn = [group(*graded), group(RIGHT, WRONG)]
    meter = Meter()
    measure_groups(drawn, meter)
    return meter.compute(reduce_over_ranks, torch.device("cpu"))


def test_the_parts_of_a_reward_are_logged_apart_though_a_rank_may_have_none() -> None:
    alone = parts_of_a_rank(0, 1)
    assert (alone["reward/part_correctness"], alone["reward/part_format"]) == (0.5, 0.75)
    assert pair()(as_rank, parts_of_a_rank) == [alone, alone]
