"""The doctor's trials: a jail, an engine, stale weights."""

import sys
from pathlib import Path
from typing import Any

import pytest

from asym_lightning.algorithms import Algorithm
from asym_lightning.doctor import running
from asym_lightning.learner.embedded import EmbeddedSettings, build_model, byte_tokenizer
from asym_lightning.learner.optimizer import OptimizerSettings
from asym_lightning.learner.policy import PolicyModule
from asym_lightning.rollout.transformers import TransformersEngine
from asym_lightning.verify.math import MathVerifier
from tests.support.doctor import problem
from tests.support.parts import algorithm
from tests.support.runs import random_policy


def test_a_jail_that_does_not_judge_or_does_not_start(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    starved = MathVerifier(timeout_s=1.0, workers=1, memory_gb=0.01)
    problem(running.check_jail(starved), f"{running.ENDLESS} is unparseable", "math-verify 0.9")
    dying = tmp_path / "worker.py"
    dying.write_text("raise SystemExit(3)")
    monkeypatch.setattr("asym_lightning.verify.supervised._SCRIPT", dying)
    problem(running.check_jail(MathVerifier(workers=1)), "does not start: status 3", "math-verify")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return random_policy(tmp_path_factory.mktemp("policy"))


class Stale(TransformersEngine):
    """Takes the first weights only."""

    synced = False

    def sync(self, weights: Any, version: int) -> None:
        if not self.synced:
            super().sync(weights, version)
        self.synced = True


@pytest.mark.parametrize(("kind", "ok"), [(TransformersEngine, True), (Stale, False)])
def test_stale_weights_are_found(kind: type[TransformersEngine], ok: bool, folder: Path) -> None:
    method: Algorithm = algorithm()
    policy = PolicyModule(
        build_model(EmbeddedSettings(), byte_tokenizer()), method, OptimizerSettings(1e-3), 1.0, 1.0
    )
    found = running.check_sync(
        running.sync_gaps(policy, kind(str(folder), "float32", 64)), running.GAP_LIMIT["cpu"]
    )
    assert found.ok is ok, found
    if not ok:
        problem(found, "limit 0.0001", "the engine's weights are not the policy's")


def test_an_engine_that_crashes_or_hangs_takes_nobody_with_it() -> None:
    (crashed,) = running.check_engine(
        [sys.executable, "-c", "raise ImportError('libcuda.so.1: no such file')"]
    )
    problem(crashed, "status 1): ImportError: libcuda.so.1", "rollout=transformers")
    (killed,) = running.check_engine([sys.executable, "-c", "import os; os.kill(os.getpid(), 9)"])
    problem(killed, "status -9", "killed, most likely for memory")
    (hanging,) = running.check_engine(
        [sys.executable, "-c", "import time; time.sleep(100)"], seconds=0.5
    )
    problem(hanging, "no answer within 0.5 s", "another process")
