"""Rules for rollouts: overlong penalty, masking, dynamic sampling, re-sampling temperature."""

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from asym_lightning.algorithms import RolloutRules
from asym_lightning.algorithms.rules import Resample
from asym_lightning.algorithms.steering import Observation
from asym_lightning.learner.batch import MiniBatch
from asym_lightning.learner.datamodule import RolloutDataModule
from asym_lightning.rollout.base import Sampling
from asym_lightning.rollout.collect import CollectedRollouts, SamplingRequest
from asym_lightning.runtime.meter import Meter
from asym_lightning.types import (
    Completion,
    FieldError,
    Kind,
    Problem,
    Prompt,
    RolloutGroup,
    Verdict,
)
from callbacks.vllm_rollout import VLLMRollout


def group(rewards: Sequence[float], tokens: int = 2, truncated: Sequence[int] = ()) -> RolloutGroup:
    completions = [
        Completion([1] * tokens, [-1.0] * tokens, "", truncated=i in truncated)
        for i in range(len(rewards))
    ]
    verdicts = [Verdict(r, Kind.CORRECT if r else Kind.WRONG) for r in rewards]
    return RolloutGroup(Prompt(Problem("", "", ""), (5,)), completions, verdicts)


PROMPTS = [Prompt(Problem(str(i), "", ""), (1,)) for i in range(7)]


def data(
    rules: RolloutRules | None = None,
    mini_batches: int = 1,
    max_tokens: int = 10,
    prompts_per_mini_batch: int = 2,
) -> RolloutDataModule:
    return RolloutDataModule(
        PROMPTS,
        None,  # type: ignore[arg-type]
        mini_batches * prompts_per_mini_batch,
        prompts_per_mini_batch=prompts_per_mini_batch,
        tokens_per_micro_batch=100,
        seed=0,
        rules=rules,
        max_tokens=max_tokens,
    )


def mini_batches_of(
    rules: RolloutRules,
    groups: Sequence[RolloutGroup],
    resampled: Sequence[Sequence[RolloutGroup]] = (),
    **sizes: int,
) -> list[MiniBatch]:
    module = data(rules, **sizes)
    module.load_rollouts(groups, resampled)
    return module.mini_batches


def test_the_overlong_penalty_falls_within_the_last_share_of_the_limit() -> None:
    # Limit 10, share .4: no penalty up to 6 tokens, then a quarter per token.
    penalty = RolloutRules(overlong_share=0.4).penalty(torch.tensor([[1, 6, 7, 8, 10]]), 10)
    torch.testing.assert_close(penalty, torch.tensor([[0.0, 0.0, -0.25, -0.5, -1.0]]))
    assert not RolloutRules().penalty(torch.tensor([[10]]), 10).any()
    groups = [group([1, 0], tokens=8), group([0, 0])]
    [batch] = mini_batches_of(RolloutRules(overlong_share=0.4), groups)
    torch.testing.assert_close(batch.rewards, torch.tensor([[0.5, -0.5], [0, 0]]))
    assert batch.correct.tolist() == [[True, False], [False, False]]


def test_truncated_rollouts_count_for_their_group_but_not_in_the_loss() -> None:
    groups = [group([1, 0], 4, truncated=[1]), group([1, 1], 3, truncated=[0, 1])]
    [batch] = mini_batches_of(RolloutRules(mask_truncated=True), groups)
    assert batch.rewards.tolist() == [[1, 0], [1, 1]] and batch.lengths.tolist() == [4, 4, 3, 3]
    assert (batch.token_count, batch.rollout_count) == (4, 1)
    assert torch.cat([m.rows for m in batch.micro_batches]).tolist() == [0] * 4


def test_only_right_rollouts_of_the_second_sampling_are_kept() -> None:
    rules = RolloutRules(resample=Resample())
    resampled = [[group([0, 1], 3), group([0, 0])], [group([1, 1], 5)]]
    first, second = mini_batches_of(rules, [group([1, 0])] * 4, resampled, mini_batches=2)
    assert first.resampled is not None and second.resampled is not None
    assert (first.resampled.token_count, first.resampled.rollout_count) == (3, 1)
    assert (second.resampled.token_count, second.resampled.rollout_count) == (10, 2)
    assert torch.cat([m.rows for m in first.resampled.micro_batches]).tolist() == [1] * 3
    assert mini_batches_of(RolloutRules(), [group([1, 0])] * 2)[0].resampled is None


def test_a_rank_without_prompts_to_sample_again_has_an_empty_part() -> None:
    [batch] = mini_batches_of(RolloutRules(resample=Resample()), [group([1, 0])] * 2, [[]])
    assert batch.resampled is not None
    assert (batch.resampled.token_count, batch.resampled.micro_batches) == (0, ())


def test_the_prompts_sampled_again_are_the_same_for_any_number_of_ranks() -> None:
    module = data(mini_batches=2, prompts_per_mini_batch=8)
    chosen = {}
    for world in (1, 2, 4):
        prompts = [module.prompts(3, rank, world) for rank in range(world)]
        parts = [module.first_of_each_mini_batch(own, 0.25) for own in prompts]
        numbers = [[number for part in parts for number, _ in part[m]] for m in range(2)]
        chosen[world] = [sorted(of_mini_batch) for of_mini_batch in numbers]
    assert chosen[1] == chosen[2] == chosen[4] == [[48, 49], [56, 57]]


def test_the_temperature_is_high_below_the_target_and_low_above() -> None:
    resample = Resample(target=0.5, high=1.2, low=0.8)
    for entropy, temperature in ((0.6, 0.8), (0.4, 1.2), (0.5, 0.8)):
        resample.observe(Observation(entropy, 0, 0))
        assert resample.temperature == temperature
    other = Resample()
    other.load_state_dict(resample.state_dict())
    assert other.metrics() == {"steer/resample_temperature": 0.8}


class Given:
    """A collector of groups with given rewards."""

    def __init__(self, rewards: Sequence[Sequence[float]]):
        self.rewards, self.asked = iter(rewards), []  # type: ignore[var-annotated]

    def collect(self, request: SamplingRequest, into: CollectedRollouts) -> list[RolloutGroup]:
        self.asked.append(len(request.numbered))
        groups = [group(next(self.rewards)) for _ in request.numbered]
        into.add(request.purpose, groups)
        return groups


def refill(
    first: Sequence[Sequence[float]], later: Sequence[Sequence[float]], most: int
) -> tuple[list[list[float]], list[int], dict[str, float]]:
    absent: Any = None
    sampling = Sampling(2, 10, 1.0, stop_ids=(0,))
    rollout, meter = VLLMRollout(absent, sampling, absent, seed=0), Meter()
    collector: Any = Given(later)
    rollout.collector = collector
    trainer: Any = SimpleNamespace(datamodule=data(RolloutRules()), global_rank=0, world_size=1)
    collected = CollectedRollouts(0, [group(r) for r in first])
    groups = rollout._refill(collected, most, trainer, meter)
    metrics = meter.compute(lambda x, how: x, torch.device("cpu"))
    return [g.rewards for g in groups], collector.asked, metrics


def test_groups_without_a_signal_are_replaced() -> None:
    # One of four groups has a signal: the three missing ones would need twelve more, a batch has
    # four. Then one group is missing, and three of eight had a signal.
    first = [[1, 0], [0, 0], [1, 1], [0, 0]]
    later = [[0, 1], [0, 0], [1, 0], [1, 1], [1, 0], [0, 1], [1, 1]]
    rewards, asked, metrics = refill(first, later, most=10)
    assert rewards == [[1, 0], [0, 1], [1, 0], [1, 0]] and asked == [4, 3]
    assert metrics["dynamic/batches"] == 3 and metrics["dynamic/filled"] == 0
    # Eleven groups were generated: three without a correct rollout, three with correct ones only,
    # one left over with a signal; seven are not learned from.
    shares = {"none": 3 / 11, "all": 3 / 11, "surplus": 1 / 11, "wasted_tokens": 7 / 11}
    for name, want in shares.items():
        assert metrics[f"dynamic/{name}"] == pytest.approx(want), name


def test_at_the_limit_dropped_groups_fill_the_rest() -> None:
    rewards, asked, metrics = refill([[1, 0], [0, 0]], [[1, 1], [0, 0]], most=2)
    assert rewards == [[1, 0], [0, 0]] and asked == [2]
    assert metrics["dynamic/filled"] == 0.5
    assert metrics["dynamic/wasted_tokens"] == 0.5
    assert metrics["dynamic/surplus"] == 0


def test_spare_prompts_continue_after_a_resume_and_are_shared_by_ranks() -> None:
    alone, shared = data(RolloutRules()), data(RolloutRules())
    first = alone.spare_prompts(4, 0, 1)
    parts = [shared.spare_prompts(2, 0, 2)]
    shared.spare = 0
    parts.append(shared.spare_prompts(2, 1, 2))
    assert sorted(parts[0] + parts[1], key=lambda pair: pair[0]) == first
    resumed = data(RolloutRules())
    resumed.load_state_dict(alone.state_dict())
    assert resumed.spare_prompts(2, 0, 1) == alone.spare_prompts(2, 0, 1) != first[:2]


def test_bad_parameters() -> None:
    for make in (
        lambda: RolloutRules(dynamic_sampling=-1),
        lambda: RolloutRules(dynamic_sampling=1.5),  # type: ignore[arg-type]
        lambda: RolloutRules(overlong_share=1.5),
        lambda: Resample(share=0),
        lambda: Resample(high=0.7),
        lambda: Resample(target=0),
        lambda: Resample(coef=-1),
    ):
        with pytest.raises(FieldError, match=r"^\w+="):
            make()
