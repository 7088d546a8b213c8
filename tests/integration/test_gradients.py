"""One optimizer step is the same however it is cut into micro-batches, in one process."""

import copy
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from lightning import Callback, LightningModule, Trainer

from asym_lightning.algorithms import (
    EntropyBonus,
    PPOClip,
    RolloutRules,
    SequenceMeanTokenMean,
    SequenceSumOverConstant,
    TokenMean,
)
from asym_lightning.algorithms.adaptive import AdaptiveBetaFamily
from asym_lightning.algorithms.modulation import AdaptiveEntropyBonus
from asym_lightning.algorithms.reference import ReferenceKL
from asym_lightning.algorithms.rules import Resample
from asym_lightning.learner.batch import MiniBatch, PackedBatch
from asym_lightning.learner.optimizer import OptimizerSettings
from asym_lightning.learner.policy import PolicyModule
from asym_lightning.types import EngineMismatchError
from callbacks.ledger import EntropyLedger
from tests.support.fits import WHOLE_BATCH, assert_same, gradients
from tests.support.parts import algorithm

pytestmark = pytest.mark.gradients
AGGREGATIONS = {
    "token": TokenMean(),
    "sequence": SequenceMeanTokenMean(),
    "constant": SequenceSumOverConstant(16),
}


@pytest.mark.parametrize("aggregation", AGGREGATIONS)
def test_gradient_is_the_same_for_one_and_for_many_micro_batches(
    aggregation: str, tmp_path: Path
) -> None:
    parts = {"aggregation": AGGREGATIONS[aggregation], "modulation": [EntropyBonus(0.1)]}
    single = gradients(tmp_path / "1", 10_000, **parts)
    assert_same(gradients(tmp_path / "7", 40, **parts), single)


def test_gradient_is_the_same_with_shared_prompts_and_without(tmp_path: Path) -> None:
    assert_same(gradients(tmp_path / "1", 40), gradients(tmp_path / "2", 40, share_prompts=False))


@pytest.mark.parametrize("precision", ["bf16-mixed", "bf16-true"])
def test_a_lower_precision_is_that_of_the_model_alone(precision: str, tmp_path: Path) -> None:
    class Dtypes(Callback):
        def on_train_batch_end(
            self,
            trainer: Trainer,
            pl_module: LightningModule,
            outputs: Any,
            batch: MiniBatch,
            batch_idx: int,
        ) -> None:
            record = outputs["record"]
            engine_logp = [micro.engine_logp for micro in batch.micro_batches]
            tensors = [batch.rewards, *engine_logp, record.logp, record.advantages]
            self.seen = {tensor.dtype for tensor in tensors}
            self.weights = next(pl_module.parameters()).dtype

    watch = Dtypes()
    low = gradients(tmp_path / "low", 40, callbacks=[watch], precision=precision)
    assert watch.seen == {torch.float32}
    assert watch.weights == (torch.bfloat16 if precision == "bf16-true" else torch.float32)
    full = gradients(tmp_path / "full", 40)
    got, want = (torch.cat([g.flatten().float() for g in s[0].values()]) for s in (low, full))
    assert (got - want).norm() / want.norm() < 0.05


def test_first_off_policy_step_is_the_on_policy_step(tmp_path: Path) -> None:
    losses = {"clip": PPOClip(), "wide": PPOClip(clip_low=0.9, clip_high=9.0)}
    clip, wide = (
        gradients(tmp_path / name, 10_000, mini_batches=2, loss=loss)
        for name, loss in losses.items()
    )
    assert_same(clip[:1], wide[:1])


@pytest.mark.parametrize("name", WHOLE_BATCH)
def test_statistics_are_those_of_the_whole_mini_batch(name: str, tmp_path: Path) -> None:
    """In the second of two updates the ratio, the anchor and the reference matter."""
    parts = WHOLE_BATCH[name]
    single = gradients(tmp_path / "1", 10_000, mini_batches=2, **copy.deepcopy(parts))
    assert_same(gradients(tmp_path / "7", 40, mini_batches=2, **copy.deepcopy(parts)), single)
    without = gradients(tmp_path / "0", 10_000, mini_batches=2)
    assert differ(single[1], without[1]), "the part does nothing"


def differ(got: dict[str, torch.Tensor], want: dict[str, torch.Tensor]) -> bool:
    """Whether any gradient differs by more than 1e-4 of its norm."""
    pairs = zip(got.values(), want.values(), strict=True)
    return any((a - b).norm() > 1e-4 * b.norm() for a, b in pairs)


def test_steered_parts_see_the_whole_mini_batch(tmp_path: Path) -> None:
    seen = []
    for budget in (10_000, 40):
        bonus = AdaptiveEntropyBonus(target=100.0, rate=0.1, largest=1.0)
        asymmetric = AdaptiveBetaFamily(rate=0.5)
        gradients(
            tmp_path / str(budget), budget, mini_batches=2, modulation=[bonus], advantage=asymmetric
        )
        assert bonus.coef == pytest.approx(0.2)
        seen.append(asymmetric.state_dict())
    assert seen[0] == pytest.approx(seen[1], rel=1e-5)
    assert seen[0]["beta_pos"] != 0.9, "the value at the start"


def test_right_rollouts_of_another_temperature_are_learned_from(tmp_path: Path) -> None:
    def rules(coef: float) -> RolloutRules:
        return RolloutRules(resample=Resample(share=0.5, coef=coef))

    with_more = gradients(tmp_path / "1", 10_000, rules=rules(0.7))
    assert_same(gradients(tmp_path / "7", 30, rules=rules(0.7)), with_more)
    plain = gradients(tmp_path / "0", 10_000)
    off = gradients(tmp_path / "off", 10_000, rules=rules(0.0))
    assert_same(off, plain)
    assert differ(with_more[0], plain[0])


class Watch(EntropyLedger):
    """Scores the mini-batch again after an update, and works out the ledger rollout by rollout."""

    def _packed(self, *given: Any) -> list[PackedBatch]:
        micro_batches = super()._packed(*given)
        self.sizes = [len(micro.input_ids) for micro in micro_batches]
        return micro_batches

    @torch.no_grad()
    def on_train_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: MiniBatch,
        batch_idx: int,
    ) -> None:
        assert isinstance(pl_module, PolicyModule)
        super().on_train_batch_end(trainer, pl_module, outputs, batch, batch_idx)
        record = outputs["record"]
        after = [pl_module.score(micro) for micro in record.micro_batches]
        logp, entropy = torch.cat([s.logp for s in after]), torch.cat([s.entropy for s in after])
        rows, correct = record.rows, batch.correct.flatten()
        moved, change = logp - record.logp, entropy - record.entropy
        rollout_weights = record.token_weights
        scored = rows[rollout_weights > 0].unique()
        weight_of = torch.stack([rollout_weights[rows == row].mean() for row in scored])
        assert weight_of.sum() == len(correct)
        assert weight_of.max() > 1, "some rollouts stand for those that nothing is learned from"
        gains = weight_of * torch.stack([moved[rows == row].mean() for row in scored])
        good, good_tokens = correct[scored], correct[rows]
        weighted, total = rollout_weights * change, rollout_weights.sum()
        self.want = {
            "logprob_gain/positive": gains[good].sum() / weight_of[good].sum(),
            "logprob_gain/negative": gains[~good].sum() / weight_of[~good].sum(),
            "ledger/measured_positive": weighted[good_tokens].sum() / total,
            "ledger/measured_negative": weighted[~good_tokens].sum() / total,
        }

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        assert isinstance(pl_module, PolicyModule)
        super().on_train_epoch_end(trainer, pl_module)
        self.got = pl_module.meter.compute(lambda tensor, how: tensor, torch.device("cpu"))


@pytest.mark.parametrize("aggregation", AGGREGATIONS)
def test_the_ledger_measures_what_scoring_everything_again_finds(
    aggregation: str, tmp_path: Path
) -> None:
    watch = Watch(share=1.0)
    gradients(tmp_path / "run", 40, aggregation=AGGREGATIONS[aggregation], callbacks=[watch])
    want = {name: float(value) for name, value in watch.want.items()}
    assert {name: watch.got[name] for name in want} == pytest.approx(want, rel=1e-3, abs=1e-7)
    assert min(abs(value) for value in want.values()) > 1e-6
    assert watch.got["ledger/step_size"] > 0, "log-probs move along the advantages"
    assert len(watch.sizes) > 1 and max(watch.sizes) <= 40, "the learner's budget holds here too"
    few = EntropyLedger(share=0.01)
    gradients(tmp_path / "few", 40, callbacks=[few])
    assert few.state_dict()["squares"] > 0


def test_no_reference_model_in_memory_unless_the_kl_is_on() -> None:
    def held(**parts: Any) -> int:
        model = torch.nn.Linear(2, 2)
        model.config = SimpleNamespace()  # type: ignore[assignment]
        model.is_backend_compatible = lambda: False  # type: ignore[assignment]
        return len(
            PolicyModule(model, algorithm(**parts), OptimizerSettings(1e-3), 1.0, 1.0)._reference
        )

    assert held() == 0 and held(modulation=[ReferenceKL()]) == 1


@pytest.mark.parametrize("mini_batches", [1, 2])
def test_an_engine_with_other_log_probs_stops_the_run_before_the_first_update(
    mini_batches: int, tmp_path: Path
) -> None:
    with pytest.raises(EngineMismatchError, match=r"log-probs of \d+ sampled tokens: mean"):
        gradients(tmp_path / "run", 10_000, mini_batches=mini_batches, limit=None)
    assert not list((tmp_path / "run").glob("*.pt"))
