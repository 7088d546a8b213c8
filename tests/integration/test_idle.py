"""Idle rollouts: without an advantage, or truncated and masked."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning import Callback, LightningModule, Trainer

from asym_lightning.algorithms import EntropyBonus, GroupStandardized, PPOClip, RolloutRules
from asym_lightning.algorithms.batchwise import FADE
from asym_lightning.algorithms.corrections import Truncate
from asym_lightning.algorithms.losses import LossInputs
from asym_lightning.algorithms.modulation import EntropyAdvantage
from asym_lightning.algorithms.selective import ClipCov, TopEntropy
from asym_lightning.algorithms.surrogates import CISPO, GSPO, SAPO, Ratio, Reinforce
from asym_lightning.learner.batch import PackedBatch
from asym_lightning.learner.policy import PolicyModule
from asym_lightning.types import RolloutGroup
from callbacks.dynamics import EntropyDynamics
from callbacks.ledger import EntropyLedger
from tests.support.fits import VOCABULARY, assert_same, gradients
from tests.support.parts import groups_without_signal, random_groups, tokens


class Scored(Callback):
    """Counts the rollouts that are scored with a gradient and without."""

    def __init__(self, reads_every_token: bool):
        self.reads_every_token = reads_every_token
        self.with_gradient = self.without = 0

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        score = pl_module.score

        def counted(batch: PackedBatch, *args: Any, **options: Any) -> Any:
            if torch.is_grad_enabled():
                self.with_gradient += len(batch.rows.unique())
            else:
                self.without += len(batch.rows.unique())
            return score(batch, *args, **options)

        pl_module.score = counted


class ZeroBonus(EntropyBonus):
    """Adds zero; the learner does not know that, and scores every token."""


@pytest.mark.parametrize(
    ("kept", "devices"),
    [
        pytest.param(5, 1, marks=pytest.mark.gradients),
        (5, 2),
        (1, 2),
        pytest.param(0, 1, marks=pytest.mark.gradients),
    ],
)
def test_rollouts_of_no_advantage_take_no_backward_pass_and_change_nothing(
    kept: int, devices: int, tmp_path: Path
) -> None:
    parts: dict[str, Any] = {
        "groups": groups_without_signal(kept),
        "budget": 60,
        "advantage": GroupStandardized(),
    }
    full, watched, dropped = Scored(True), Scored(True), Scored(False)
    want = gradients(tmp_path / "full", callbacks=[full], modulation=[ZeroBonus(0.0)], **parts)
    for watch in (watched, dropped):
        folder = tmp_path / str(watch.reads_every_token)
        got = gradients(folder, callbacks=[watch], devices=devices, **parts)
        if kept:
            assert_same(got, want)
        else:
            assert not any(grad.any() for step in [*got, *want] for grad in step.values())
    if devices == 1:  # a spawned process counts for itself
        assert full.without == dropped.without == 0
        assert watched.with_gradient == dropped.with_gradient < full.with_gradient
        left_out = full.with_gradient - watched.with_gradient
        assert 0 < watched.without <= left_out / 2, "some rollouts stand for all others"


class Logged(Callback):
    """The metrics of the iteration."""

    reads_every_token = True

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        assert isinstance(pl_module, PolicyModule)
        self.metrics = pl_module.meter.compute(lambda x, how: x, torch.device("cpu"))


@pytest.mark.gradients
def test_shares_of_tokens_are_those_of_all_rollouts_where_only_some_are_scored(
    tmp_path: Path,
) -> None:
    def same_length(group: RolloutGroup) -> RolloutGroup:
        completions = [
            replace(c, token_ids=(c.token_ids * 8)[:8], logprobs=[-3.7] * 8)
            for c in group.completions
        ]
        return replace(group, completions=completions)

    groups = [same_length(group) for group in groups_without_signal(2)]
    parts: dict[str, Any] = {
        "mini_batches": 2,
        "groups": [*groups[:1], *groups[2:5], *groups[1:2], *groups[5:]],
        "advantage": GroupStandardized(),
        "loss": PPOClip(1e-3, 1e-3),
        "correction": Truncate(1.0),
    }
    every, some = Logged(), Logged()
    bonus = [ZeroBonus(0.0)]
    gradients(tmp_path / "every", 60, callbacks=[every], modulation=bonus, **parts)
    gradients(tmp_path / "some", 60, callbacks=[some], **parts)
    clipped = {name: value for name, value in every.metrics.items() if name.startswith("clip/")}
    assert max(clipped.values()) > 0
    assert {name: some.metrics[name] for name in clipped} == pytest.approx(clipped)
    truncated = every.metrics["correction/truncated"]
    assert some.metrics["correction/truncated"] == pytest.approx(truncated, abs=0.15)


@pytest.mark.parametrize("devices", [pytest.param(1, marks=pytest.mark.gradients), 2])
@pytest.mark.parametrize(
    "modulation", [[], [EntropyBonus(0.1)], [TopEntropy(0.3)]], ids=["none", "bonus", "planned"]
)
def test_a_mini_batch_of_which_all_is_cut_off_changes_nothing(
    devices: int, modulation: list[Any], tmp_path: Path
) -> None:
    groups = random_groups(8, 4, VOCABULARY)
    for group in groups[:4]:  # the first of two mini-batches
        group.completions[:] = [replace(c, truncated=True) for c in group.completions]
    parts: dict[str, Any] = {
        "rules": RolloutRules(mask_truncated=True),
        "modulation": modulation,
        "advantage": FADE(),
    }
    parts |= {"callbacks": [EntropyDynamics(), EntropyLedger(every=1)]}
    got = gradients(tmp_path / "run", 60, devices, mini_batches=2, groups=groups, **parts)
    assert not any(grad.any() for grad in got[0].values())
    assert any(grad.any() for grad in got[1].values())


LOSSES = [PPOClip(), Reinforce(), Ratio(), CISPO(0.8, 1.2), SAPO(), GSPO()]


@pytest.mark.gradients
@pytest.mark.parametrize("loss", LOSSES, ids=lambda loss: type(loss).__name__)
def test_no_loss_has_a_gradient_where_the_advantage_is_zero(loss: Any) -> None:
    logp = torch.linspace(-3, 0, 7, requires_grad=True)
    old_logp = logp.detach() + torch.linspace(-1, 1, 7)
    rows = torch.tensor([0, 0, 0, 1, 1, 1, 1])
    out = loss(LossInputs(logp, old_logp, torch.zeros(7), rows))
    assert not torch.autograd.grad(out.per_token.sum(), logp)[0].any()


@pytest.mark.parametrize(
    "modulation",
    [ClipCov(0.3, 0.0, 1e3), TopEntropy(0.3), EntropyAdvantage()],
    ids=lambda m: type(m).__name__,
)
def test_what_calls_itself_idle_leaves_a_zero_advantage_zero(modulation: Any) -> None:
    advantages = torch.tensor([0.0, 0, 0, 1, -1, 0, 0, 2, 0])
    seen = tokens(logp=-torch.rand(9), entropy=torch.rand(9), advantages=advantages)
    if modulation.needs_batch:
        seen.plan = modulation.prepare(seen, torch.Generator().manual_seed(0))
    assert modulation.idle_at_zero and modulation.loss_term(seen) is None
    assert not modulation.shape_advantages(seen)[seen.advantages == 0].any()
