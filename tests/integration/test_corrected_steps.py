"""Training steps with corrections for the gap between engine and trainer."""

from pathlib import Path

import pytest
import torch
from lightning import Callback, LightningModule, Trainer

from asym_lightning.algorithms.corrections import Mask, Truncate
from asym_lightning.algorithms.surrogates import Ratio, Reinforce
from asym_lightning.learner.policy import PolicyModule
from asym_lightning.types import EngineMismatchError
from tests.support.fits import assert_same, gradients

pytestmark = pytest.mark.gradients


class Metrics(Callback):
    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        assert isinstance(pl_module, PolicyModule)
        self.got = pl_module.meter.compute(lambda tensor, how: tensor, torch.device("cpu"))


CUTS = {
    "tis": Truncate(1.05),
    "icepop": Mask(0.9, 1.1),
    "sequence_tis": Truncate(1.05, "sequence"),
    "mis": Mask(0.5, 1.5, "sequence"),
}


@pytest.mark.parametrize("name", CUTS)
def test_a_corrected_step_is_the_same_however_it_is_cut(name: str, tmp_path: Path) -> None:
    watch, correction = Metrics(), CUTS[name]
    parts = {"mini_batches": 2, "correction": correction}
    uncut = gradients(tmp_path / "1", 10_000, callbacks=[watch], **parts)
    assert_same(gradients(tmp_path / "7", 40, **parts), uncut)
    kind = "truncated" if isinstance(correction, Truncate) else "dropped"
    assert 0.05 < watch.got[f"correction/{kind}"] < 0.95
    assert watch.got["correction/weight"] != watch.got["correction/weight_used"]


def test_old_log_probs_of_the_engine_are_the_full_weight_without_a_scoring_pass(
    tmp_path: Path,
) -> None:
    trainer, engine = Metrics(), Metrics()
    weighed = gradients(
        tmp_path / "1",
        10_000,
        mini_batches=2,
        loss=Reinforce(),
        correction=Truncate(1e9),
        callbacks=[trainer],
    )
    ratio = gradients(
        tmp_path / "2", 40, mini_batches=2, loss=Ratio(), old_logprobs="engine", callbacks=[engine]
    )
    assert_same(ratio[:1], weighed[:1])
    assert "time/score" in trainer.got and "time/score" not in engine.got
    assert engine.got["engine/logprob_gap_mean"] > 0.01


@pytest.mark.parametrize("mini_batches", [1, 2])
def test_the_engine_is_checked_also_where_its_log_probs_are_the_old_ones(
    mini_batches: int, tmp_path: Path
) -> None:
    with pytest.raises(EngineMismatchError, match="disagree on the log-probs"):
        gradients(
            tmp_path / "run", 10_000, mini_batches=mini_batches, limit=None, old_logprobs="engine"
        )
    assert not list((tmp_path / "run").glob("*.pt"))
