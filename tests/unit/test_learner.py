"""Adapters, optimizers, and the counts of the throughput callback."""

from importlib.util import find_spec
from typing import Any

import pytest
import torch

from asym_lightning.learner.adapters import (
    LoRASettings,
    add_adapters,
    merged_state_dict,
    without_adapters,
)
from asym_lightning.learner.batch import MiniBatch
from asym_lightning.learner.optimizer import OptimizerSettings, build_optimizer
from asym_lightning.learner.packing import micro_batches
from asym_lightning.metrics.throughput import forward_flops, rates, step_work
from asym_lightning.types import (
    Completion,
    ConfigError,
    Kind,
    Problem,
    Prompt,
    RolloutGroup,
    Verdict,
)
from tests.support.models import VOCABULARY, build, policy_of
from tests.support.parts import random_groups
from tests.support.records import record


def scores(model: Any) -> torch.Tensor:
    [micro] = micro_batches(random_groups(2, 4, VOCABULARY), 10_000, [True] * 8, share_prompts=True)
    return policy_of(model).score(micro).logp


@pytest.mark.parametrize("family", ["qwen2", "qwen3", "llama"])
@pytest.mark.parametrize("targets", ["all-linear", ["q_proj", "down_proj"]])
def test_merged_weights_are_those_of_a_model_without_adapters(
    family: str, targets: str | list[str]
) -> None:
    plain, model = build(family), build(family)
    before = scores(plain)
    add_adapters(model, LoRASettings(2, 8.0, targets))
    torch.testing.assert_close(scores(model), before)
    generator = torch.Generator().manual_seed(0)
    for name, parameter in model.named_parameters():
        assert parameter.requires_grad == ("lora_" in name)
        if parameter.requires_grad:
            parameter.data = torch.randn(parameter.shape, generator=generator) * 0.1
    after = scores(model)
    assert (after - before).abs().max() > 1e-3
    with without_adapters(model):
        torch.testing.assert_close(scores(model), before)
    weights = dict(merged_state_dict(model))
    names = {name for name, _ in plain.named_parameters()}
    assert set(weights) == names
    plain.load_state_dict(weights, strict=False)
    torch.testing.assert_close(scores(plain), after, rtol=1e-5, atol=1e-5)


def test_only_adapters_get_gradients_and_the_optimizer() -> None:
    model = build("qwen3")
    add_adapters(model, LoRASettings(2, 4.0))
    policy = policy_of(model, gradient_checkpointing=True)
    [optimizer], _ = policy.configure_optimizers()
    learning = [name for name, p in policy.named_parameters() if p.requires_grad]
    assert len(optimizer.param_groups[0]["params"]) == len(learning)
    assert all("lora_" in name for name in learning)
    [micro] = micro_batches(random_groups(2, 4, VOCABULARY), 10_000, [True] * 8)
    policy.score(micro).logp.sum().backward()
    assert all((p.grad is not None) == p.requires_grad for p in policy.parameters())


LACKING_FOR_8BIT = "bitsandbytes" if find_spec("bitsandbytes") is None else "CUDA"


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: LoRASettings(0, 1.0), "r=0"),
        (lambda: LoRASettings(1, 0.0), "alpha=0.0"),
        (lambda: OptimizerSettings(1e-3, kind="sgd"), "adamw, adamw_8bit"),
        (lambda: OptimizerSettings(1e-3, kind="adamw_8bit"), LACKING_FOR_8BIT),
        (lambda: add_adapters(build("qwen3"), LoRASettings(2, 4.0, ["no_such"])), "no_such"),
    ],
)
def test_settings_that_cannot_work_are_refused_in_one_line(make: Any, says: str) -> None:
    if says == "CUDA" and torch.cuda.is_available():
        pytest.skip("bitsandbytes and a GPU are available")
    with pytest.raises(ConfigError, match=says) as error:
        make()
    assert "\n" not in str(error.value)


def test_warm_up_rises_to_the_learning_rate() -> None:
    weight = torch.nn.Parameter(torch.ones(1))
    optimizer, warmup = build_optimizer(OptimizerSettings(0.4, warmup_steps=4), [weight])
    seen = []
    for _ in range(6):
        seen.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        warmup.step()
    assert seen == pytest.approx([0.1, 0.2, 0.3, 0.4, 0.4, 0.4])


def test_work_is_counted_as_worked_out_by_hand() -> None:
    """A prompt of 3 tokens with completions of 2 and 4 tokens.

    With a shared prompt 3 + 1 + 3 = 7 tokens are computed. Two micro-batches hold the prompt twice:
    10 tokens.
    """
    completions = [Completion([1] * n, [0.0] * n, "", truncated=False) for n in (2, 4)]
    prompt = Prompt(Problem("0", "", ""), (1, 2, 3))
    verdicts = [Verdict(0.0, Kind.WRONG), Verdict(1.0, Kind.CORRECT)]
    group = RolloutGroup(prompt, completions, verdicts)
    config = build("qwen3").config
    for budget, computed in ((100, 7), (6, 10)):
        micros = micro_batches([group], budget, [True, True], share_prompts=True)
        rewards, lengths = torch.tensor([[0.0, 1.0]]), torch.tensor([2, 4])
        batch = MiniBatch(rewards, rewards.bool(), lengths, micro_batches=micros, groups=[group])
        rows = torch.cat([micro.rows for micro in micros])
        work = step_work(record(batch, rows), config)
        assert (work.computed, work.useful, work.completion_tokens) == (computed, 7, 6)
        assert work.flops == 3 * sum(forward_flops(micro, config) for micro in micros)
    [micro] = micro_batches([group], 100, [True, True], share_prompts=True)
    # The four matrices of attention and the three of the MLP.
    layer = 32 * 8 * (2 * 4 + 2 * 2) + 3 * 32 * 64
    # Pairs within the prompt, then of each completion's inputs with the prompt and themselves.
    pairs = 6 + (3 + 1) + (9 + 6)
    matrices = 2 * (7 * layer * 2 + 6 * 32 * VOCABULARY)
    assert forward_flops(micro, config) == matrices + 4 * pairs * 4 * 8 * 2


def test_rates_are_counts_over_their_own_phase() -> None:
    counts = {"generated_tokens": 100.0, "learned_tokens": 60.0, "flops": 8e12}
    metrics = {"time/iteration": 4.0, "time/learn": 2.0, "time/generate": 1.0}
    metrics |= {f"throughput/{name}": count for name, count in counts.items()}
    got = rates(metrics, 10e12, 2)
    want = {
        "throughput/tokens_per_s": 25.0,
        "throughput/learned_tokens_per_s": 30.0,
        "throughput/learn_tflops": 2.0,
        "throughput/mfu": 0.2,
        "time_share/learn": 0.5,
        "time_share/generate": 0.25,
    }
    assert got == pytest.approx(want)
    assert set(metrics) == {"time/iteration", "time/learn", "time/generate"}
