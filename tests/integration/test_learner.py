"""Compiled layers, and the tokens that a run wastes."""

from pathlib import Path

import pytest
import torch

from asym_lightning.learner.packing import micro_batches
from tests.support.commands import metrics
from tests.support.models import VOCABULARY, build, policy_of
from tests.support.parts import random_groups
from tests.support.runs import random_policy, run


def test_compiled_layers_score_the_same() -> None:
    groups = random_groups(2, 4, VOCABULARY)
    plain, compiled = policy_of(build("qwen3")), policy_of(build("qwen3"), compile_layers=True)
    compiled.setup("fit")
    for budget in (10_000, 20):
        for micro in micro_batches(groups, budget, [True] * 8, share_prompts=True):
            a, b = plain.score(micro).logp, compiled.score(micro).logp
            torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-5)
            a.sum().backward()
            b.sum().backward()
    for a, b in zip(plain.parameters(), compiled.parameters(), strict=True):
        torch.testing.assert_close(a.grad, b.grad, rtol=1e-4, atol=1e-5)


def test_the_default_run_wastes_less_than_3_percent_of_its_tokens(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    policy = random_policy(tmp_path / "policy")
    rows = metrics(run(monkeypatch, tmp_path, f"policy.path={policy}", "trainer.max_epochs=2"))
    assert 0 <= rows["throughput/wasted_share"].max() < 0.03
    assert rows["memory/peak_gib"].max() > 0.1
    assert rows["throughput/learn_tflops"].max() > 0
    assert rows[[c for c in rows if c.startswith("time_share/")]].sum(axis=1).max() <= 1
