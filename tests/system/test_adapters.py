"""A run with low-rank adapters and the real vLLM."""

from pathlib import Path

import torch
from transformers import AutoModelForCausalLM

from asym_lightning.commands.export import export
from tests.support.commands import metrics, summary, train
from tests.support.runs import random_policy


def test_a_run_with_adapters_keeps_the_engine_right_resumes_and_exports(tmp_path: Path) -> None:
    policy = random_policy(tmp_path / "policy")
    (tmp_path / "task").mkdir()
    (tmp_path / "task" / "parity.yaml").write_text("_target_: tests.support.coin.Parity")
    common = [
        f"--config-dir={tmp_path}",
        f"policy.path={policy}",
        "task=parity",
        "callbacks.evaluation.problems=4",
        "lora=default",
        "policy.lora.r=4",
        "policy.optimizer.learning_rate=1e-2",
        "callbacks.checkpoint.every_n_epochs=1",
    ]
    train(tmp_path / "run", *common, "trainer.max_epochs=2")
    gaps = metrics(tmp_path / "run")["engine/logprob_gap_max"].dropna()
    assert len(gaps) == 2
    assert gaps.max() < 1e-4, "the engine had the merged weights in the second iteration"
    start, trained = (
        AutoModelForCausalLM.from_pretrained(folder).state_dict()
        for folder in (policy, tmp_path / "run" / "policy")
    )
    assert start.keys() == trained.keys()
    moved = {name for name in start if not torch.equal(start[name], trained[name])}
    assert moved and all("_proj" in name for name in moved)
    last = tmp_path / "run" / "checkpoints" / "last.ckpt"
    export(last, tmp_path / "exported")
    exported = AutoModelForCausalLM.from_pretrained(tmp_path / "exported").state_dict()
    for name, tensor in exported.items():
        torch.testing.assert_close(tensor, trained[name])
    train(tmp_path / "more", *common, "trainer.max_epochs=3", f"ckpt_path={last}")
    assert summary(tmp_path / "more")["iterations"] == 1
    assert metrics(tmp_path / "more")["engine/logprob_gap_max"].max() < 1e-4
