"""`python train.py` that is stopped: a resumed run, signals, and a warm start that is cut off."""

import os
import signal
import time
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch

from asym_lightning.learner.embedded import EmbeddedSettings, WarmStart, embedded_policy
from tests.support.commands import (
    LOCKSTEP,
    SAME,
    SHARDS,
    SMALL,
    ZERO,
    metrics,
    start,
    summary,
    train,
    weights,
)


@pytest.mark.parametrize(
    ("strategy", "ranks"),
    [
        pytest.param((), 1, id="whole"),
        pytest.param((*SHARDS, "rollout=transformers"), 2, id="shards", marks=pytest.mark.full),
        pytest.param((*ZERO, "rollout=transformers"), 2, id="zero", marks=pytest.mark.full),
    ],
)
def test_a_resumed_run_is_the_uninterrupted_one(
    strategy: tuple[str, ...], ranks: int, policy: str, tmp_path: Path
) -> None:
    steered = (
        "algo=asymgrpo_adaptive",
        "modulation@algo.modulation=adaptive_entropy",
        "algo.modulation.adaptive_entropy.target=9",
    )
    common = (policy, *steered, *strategy, "policy.prompts_per_mini_batch=4")
    both_lengths = ("trainer.max_epochs=4,2", "hydra.sweep.subdir=\\${trainer.max_epochs}")
    train(tmp_path, "-m", *common, *both_lengths, program=LOCKSTEP, ranks=ranks)
    half, rest = tmp_path / "2", tmp_path / "rest"
    resume = ("trainer.max_epochs=4", f"ckpt_path={half / 'checkpoints' / 'last.ckpt'}")
    train(rest, *common, *resume, ranks=ranks)
    uninterrupted = metrics(tmp_path / "4")
    both = pd.concat([metrics(half), metrics(rest)])
    steering = [n for n in uninterrupted if n.startswith(("steer/", "ledger/", "entropy/high"))]
    assert len(steering) == 5 + 12
    assert uninterrupted["steer/entropy_coef"].is_monotonic_increasing
    columns = [*SAME, *steering]
    pd.testing.assert_frame_equal(uninterrupted[columns], both[columns])
    want, got = weights(tmp_path / "4"), weights(rest)
    assert all(torch.equal(want[name], got[name]) for name in want)


@pytest.mark.parametrize(
    ("kind", "ranks"),
    [(signal.SIGINT, ()), (signal.SIGTERM, ("trainer.devices=2", "rollout=transformers"))],
    ids=["Ctrl-C", "SIGTERM"],
)
def test_a_signal_ends_a_run_with_a_checkpoint_and_a_summary(
    kind: signal.Signals, ranks: tuple[str, ...], policy: str, tmp_path: Path
) -> None:
    endless = "trainer.max_epochs=100000"
    running = start(f"hydra.run.dir={tmp_path}", *SMALL, policy, endless, *ranks)

    def third_iteration() -> bool:
        """Whether every rank has written its rollouts of iteration 2."""
        return len(list(tmp_path.glob("rollouts/*000002*"))) > len(ranks) // 2

    assert running.wait_for(third_iteration, 200), running.output
    running.send_signal(kind)
    status, output = running.wait(100), running.output
    assert status == 130, output[-5000:]
    assert "Traceback" not in output
    assert "interrupted: this iteration is finished and saved" in output
    got = summary(tmp_path)
    assert got["status"] == "interrupted" and got["iterations"] >= 3
    assert (tmp_path / "policy" / "model.safetensors").is_file()
    state = torch.load(tmp_path / "checkpoints" / "last.ckpt", weights_only=True)
    assert state["loops"]["fit_loop"]["epoch_progress"]["current"]["processed"] == got["iterations"]


def test_ctrl_c_during_the_warm_start_leaves_no_policy(tmp_path: Path) -> None:
    environment = os.environ | {"XDG_CACHE_HOME": str(tmp_path / "cache")}
    running = start(f"hydra.run.dir={tmp_path / 'run'}", environment=environment)
    announced = running.wait_for(lambda: "warm start" in running.output, 100)
    assert announced, "the warm start was never announced"
    time.sleep(1)
    running.send_signal(signal.SIGINT)
    status, output = running.wait(100), running.output
    assert status == 130 and "Traceback" not in output, output[-5000:]
    assert [path.suffix for path in (tmp_path / "cache" / "asym-lightning").iterdir()] == [".lock"]


def test_an_interrupt_before_the_warm_start_has_a_step_is_no_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(self: WarmStart) -> Any:
        raise KeyboardInterrupt

    monkeypatch.setattr(WarmStart, "demonstrations", interrupted)
    with pytest.raises(SystemExit) as stop:  # Lightning's way to end after Ctrl-C
        embedded_policy(EmbeddedSettings(steps=2), tmp_path)
    assert isinstance(stop.value.__context__, KeyboardInterrupt)
    assert [path.suffix for path in tmp_path.iterdir()] == [".lock"]


def test_a_broken_cache_is_rebuilt(tmp_path: Path) -> None:
    settings = EmbeddedSettings(steps=2)
    folder = embedded_policy(settings, tmp_path)
    good = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(good[:-10])
    assert (embedded_policy(settings, tmp_path) / "model.safetensors").read_bytes() == good
    os.remove(folder / "card.json")
    assert (embedded_policy(settings, tmp_path) / "model.safetensors").read_bytes() == good
    stamp = (folder / "card.json").stat().st_mtime_ns
    assert embedded_policy(settings, tmp_path) == folder
    assert (folder / "card.json").stat().st_mtime_ns == stamp
