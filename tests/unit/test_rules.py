"""Rules for rollouts: overlong penalty, masking, dynamic sampling, the temperature of re-sampling."""

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any, ClassVar

import pytest
import torch

from asym_lightning.algorithms import RolloutRules
from asym_lightning.algorithms.rules import Resample
from asym_lightning.algorithms.steering import Observation
from asym_lightning.learner.batch import MiniBatch
from asym_lightning.learner.datamodule import RolloutDataModule
from asym_lightning.rollout.base import Sampling
from asym_lightning.runtime.meter import Meter
from asym_lightning.types import Completion, ConfigError, Kind, Problem, Prompt, RolloutGroup, Verdict
from callbacks.vllm_rollout import Draw, Made, VLLMRollout


def group(rewards: Sequence[float], tokens: int = 2, truncated: Sequence[int] = ()) -> RolloutGroup:
    completions = [Completion([1] * tokens, [-1.0] * tokens, "", i in truncated) for i in range(len(rewards))]
    return RolloutGroup(Prompt(Problem("", "", ""), (5,)), completions, [Verdict(r, Kind.CORRECT if r else Kind.WRONG) for r in rewards])


class Task:
    name, heldout, notes = "some", (), ()
    train: ClassVar = [Problem(str(i), "", "") for i in range(7)]

    def encode(self, problem: Problem, tokenizer: object) -> list[int]:
        return [1]


def data(rules: RolloutRules, mini_batches: int = 1, max_tokens: int = 10) -> RolloutDataModule:
    return RolloutDataModule(Task(), None, 2 * mini_batches, 2, 100, 0, rules, max_tokens)  # type: ignore[arg-type]


def put(
    rules: RolloutRules, groups: Sequence[RolloutGroup], resampled: Sequence[Sequence[RolloutGroup]] = (), **sizes: int
) -> list[MiniBatch]:
    module = data(rules, **sizes)
    module.put(groups, resampled)
    return module.mini_batches


def test_the_overlong_penalty_falls_within_the_last_share_of_the_limit() -> None:
    # limit 10, share .4: nothing up to 6 tokens, then a quarter per token
    penalty = RolloutRules(overlong_share=0.4).penalty(torch.tensor([[1, 6, 7, 8, 10]]), 10)
    torch.testing.assert_close(penalty, torch.tensor([[0.0, 0.0, -0.25, -0.5, -1.0]]))
    assert not RolloutRules().penalty(torch.tensor([[10]]), 10).any()
    batch = put(RolloutRules(overlong_share=0.4), [group([1, 0], tokens=8), group([0, 0])])[0]
    torch.testing.assert_close(batch.rewards, torch.tensor([[0.5, -0.5], [0, 0]]))
    assert batch.right.tolist() == [[True, False], [False, False]]


def test_truncated_rollouts_count_for_their_group_but_not_in_the_loss() -> None:
    batch = put(RolloutRules(mask_truncated=True), [group([1, 0], 4, truncated=[1]), group([1, 1], 3, truncated=[0, 1])])[0]
    assert batch.rewards.tolist() == [[1, 0], [1, 1]] and batch.lengths.tolist() == [4, 4, 3, 3]
    assert (batch.token_count, batch.rollout_count) == (4, 1)
    assert torch.cat([m.rows for m in batch.micro_batches]).tolist() == [0] * 4


def test_only_right_rollouts_of_the_second_sampling_are_kept() -> None:
    rules = RolloutRules(resample=Resample())
    one, two = put(rules, [group([1, 0])] * 4, [[group([0, 1], 3), group([0, 0])], [group([1, 1], 5)]], mini_batches=2)
    assert one.resampled is not None and two.resampled is not None
    assert (one.resampled.token_count, one.resampled.rollout_count) == (3, 1)
    assert (two.resampled.token_count, two.resampled.rollout_count) == (10, 2)
    assert torch.cat([m.rows for m in one.resampled.micro_batches]).tolist() == [1] * 3
    assert put(RolloutRules(), [group([1, 0])] * 2)[0].resampled is None


def test_a_rank_without_prompts_to_sample_again_has_an_empty_part() -> None:
    [batch] = put(RolloutRules(resample=Resample()), [group([1, 0])] * 2, [[]])
    assert batch.resampled is not None and (batch.resampled.token_count, batch.resampled.micro_batches) == (0, [])


def test_the_prompts_sampled_again_are_the_same_for_any_number_of_ranks() -> None:
    module = RolloutDataModule(Task(), None, 16, 8, 100, 0)  # type: ignore[arg-type]
    chosen = {}
    for world in (1, 2, 4):
        parts = [module.first_of_each_mini_batch(module.prompts(3, rank, world), 0.25) for rank in range(world)]
        chosen[world] = [sorted(number for part in parts for number, _ in part[m]) for m in range(2)]
    assert chosen[1] == chosen[2] == chosen[4] == [[48, 49], [56, 57]]


def test_the_temperature_is_high_below_the_target_and_low_above() -> None:
    resample = Resample(target=0.5, high=1.2, low=0.8)
    for entropy, temperature in ((0.6, 0.8), (0.4, 1.2), (0.5, 0.8)):
        resample.observe(Observation(entropy, 0, 0))
        assert resample.temperature == temperature
    other = Resample()
    other.load_state_dict(resample.state_dict())
    assert other.metrics() == {"steer/resample_temperature": 0.8}


class Drawn(VLLMRollout):
    """Rollouts with given rewards in place of generated ones."""

    def __init__(self, rewards: Sequence[Sequence[float]]):
        super().__init__(None, Sampling(2, 10, 1.0, (0,)), None, 0)  # type: ignore[arg-type]
        self.rewards, self.asked = iter(rewards), []  # type: ignore[var-annotated]

    def _draw(self, draw: Draw, made: Made) -> None:
        self.asked.append(len(draw.numbered))
        made.drawn.append([group(next(self.rewards)) for _ in draw.numbered])


def refill(
    first: Sequence[Sequence[float]], later: Sequence[Sequence[float]], most: int
) -> tuple[list[list[float]], list[int], dict[str, float]]:
    rollout, meter = Drawn(later), Meter()
    trainer: Any = SimpleNamespace(datamodule=data(RolloutRules()), global_rank=0, world_size=1)
    groups = rollout._refill(Made(0, [[group(r) for r in first]]), most, trainer, meter)
    return [g.rewards for g in groups], rollout.asked, meter.compute(lambda x, how: x, torch.device("cpu"))


def test_groups_without_a_signal_are_replaced() -> None:
    # one of four has a signal, so the three missing ones need twelve more, but a batch has four; then one misses, three of eight had one
    first = [[1, 0], [0, 0], [1, 1], [0, 0]]
    rewards, asked, metrics = refill(first, [[0, 1], [0, 0], [1, 0], [1, 1], [1, 0], [0, 1], [1, 1]], most=10)
    assert rewards == [[1, 0], [0, 1], [1, 0], [1, 0]] and asked == [4, 3]
    assert metrics["dynamic/batches"] == 3 and metrics["dynamic/filled"] == 0
    # eleven generated: three none solved, three all solved, one with a signal left over; seven not learned from
    for name, want in {"none": 3 / 11, "all": 3 / 11, "surplus": 1 / 11, "wasted_tokens": 7 / 11}.items():
        assert metrics[f"dynamic/{name}"] == pytest.approx(want), name


def test_at_the_limit_dropped_groups_fill_the_rest() -> None:
    rewards, asked, metrics = refill([[1, 0], [0, 0]], [[1, 1], [0, 0]], most=2)
    assert rewards == [[1, 0], [0, 0]] and asked == [2]
    assert metrics["dynamic/filled"] == 0.5 and metrics["dynamic/wasted_tokens"] == 0.5 and metrics["dynamic/surplus"] == 0


def test_spare_prompts_continue_after_a_resume_and_are_shared_by_ranks() -> None:
    one, two = data(RolloutRules()), data(RolloutRules())
    first = one.spare_prompts(4, 0, 1)
    parts = [two.spare_prompts(2, 0, 2)]
    two.spare = 0
    parts.append(two.spare_prompts(2, 1, 2))
    assert sorted(parts[0] + parts[1], key=lambda pair: pair[0]) == first
    resumed = data(RolloutRules())
    resumed.load_state_dict(one.state_dict())
    assert resumed.spare_prompts(2, 0, 1) == one.spare_prompts(2, 0, 1) != first[:2]


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
        with pytest.raises(ConfigError, match=r"algo\.rules\."):
            make()
