"""One optimizer step is the same in one process and spread over two."""

import copy
from pathlib import Path
from typing import Any

import pytest

from asym_lightning.algorithms import EntropyBonus, RolloutRules
from asym_lightning.algorithms.corrections import Mask
from asym_lightning.algorithms.rules import Resample
from tests.support.fits import WHOLE_BATCH, assert_same, gradients


def test_gradient_is_the_same_for_one_and_for_two_processes(tmp_path: Path) -> None:
    parts = {"modulation": [EntropyBonus(0.1)]}
    single = gradients(tmp_path / "1", 10_000, **parts)
    assert_same(gradients(tmp_path / "2", 45, devices=2, **parts), single)


def test_off_policy_steps_are_the_same_for_two_processes(tmp_path: Path) -> None:
    single = gradients(tmp_path / "1", 10_000, mini_batches=2)
    assert_same(gradients(tmp_path / "2", 45, devices=2, mini_batches=2), single)


@pytest.mark.parametrize("name", ["whitened", "clip_cov", "siren", "kl_in_reward", "masked"])
def test_statistics_are_those_of_the_mini_batch_of_both_ranks(name: str, tmp_path: Path) -> None:
    def parts() -> dict[str, Any]:
        return {"mini_batches": 2, **copy.deepcopy(WHOLE_BATCH[name])}

    single = gradients(tmp_path / "1", 10_000, **parts())
    assert_same(gradients(tmp_path / "2", 45, devices=2, **parts()), single)


def test_right_rollouts_of_another_temperature_are_learned_from_on_both_ranks(
    tmp_path: Path,
) -> None:
    parts: dict[str, Any] = {"rules": RolloutRules(resample=Resample(share=0.5, coef=0.7))}
    double = gradients(tmp_path / "2", 45, devices=2, **parts)
    assert_same(double, gradients(tmp_path / "1", 10_000, **parts))


def test_a_corrected_step_is_the_same_on_two_ranks(tmp_path: Path) -> None:
    parts: dict[str, Any] = {"mini_batches": 2, "correction": Mask(0.5, 1.5, "sequence")}
    single = gradients(tmp_path / "1", 10_000, **parts)
    assert_same(gradients(tmp_path / "2", 45, devices=2, **parts), single)
