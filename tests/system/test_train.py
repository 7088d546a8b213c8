"""`python train.py` from end to end, with the real vLLM on a small policy."""

import json
import re
from pathlib import Path

import pandas as pd
import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from transformers import AutoModelForCausalLM

from asym_lightning.commands.export import export
from asym_lightning.learner.embedded import byte_tokenizer
from asym_lightning.rollout.vllm import VLLMEngine
from callbacks.board import CHARTS
from tests.support import preloaded
from tests.support.commands import LOCKSTEP, finished, metrics, rollouts, summary, train, weights
from tests.support.engines import FAMILIES


def test_stale_engine_weights_stop_the_run(policy: str, tmp_path: Path) -> None:
    overrides = (
        "algo=grpo",
        "+callbacks.stale._target_=tests.support.stale.StaleWeights",
        "policy.optimizer.warmup_steps=0",
        "trainer.max_epochs=5",
        "callbacks.evaluation.problems=0",
    )
    output = train(tmp_path, policy, *overrides, status=1)
    assert "are stale: older than the trainer's" in output
    got = summary(tmp_path)
    assert got["status"] == "failed" and 1 <= got["iterations"] <= 2


@pytest.mark.parametrize(
    "names", [["qwen3-tied"], pytest.param(["llama-untied", "qwen2-tied"], marks=pytest.mark.full)]
)
def test_each_family_goes_from_folder_to_export(names: list[str], tmp_path: Path) -> None:
    for name in names:
        torch.manual_seed(0)
        FAMILIES[name]().save_pretrained(tmp_path / name)
        byte_tokenizer().save_pretrained(tmp_path / name)
    paths = ",".join(str(tmp_path / name) for name in names)
    # Every answer of a random model is wrong, and REINFORCE learns from wrong answers.
    off_policy = (
        "policy.prompts_per_mini_batch=4",
        "algo=reinforce",
        "policy.optimizer.learning_rate=1e-3",
    )
    policies = ("policy=hf", f"policy.path={paths}")
    length = "trainer.max_epochs=2"
    train(tmp_path / "runs", "-m", *policies, *off_policy, length, program=LOCKSTEP)
    runs = [path.parent for path in (tmp_path / "runs").glob("*/summary.json")]
    assert len(runs) == len(names)
    for folder in runs:
        got = summary(folder)
        assert got["status"] == "done" and got["logprob_gap_max"] < 1e-4
        original = got["config"]["policy"]["path"]
        exported = tmp_path / "exported" / Path(original).name
        export(folder / "checkpoints" / "last.ckpt", exported)
        before = AutoModelForCausalLM.from_pretrained(original).state_dict()
        after, same = AutoModelForCausalLM.from_pretrained(exported).state_dict(), weights(folder)
        assert all(torch.equal(after[name], same[name]) for name in same)
        assert any(not torch.equal(after[name], before[name]) for name in before)
    folders = sorted((tmp_path / "exported").iterdir())
    assert len(folders) == len(names)
    finished([preloaded.Process(load_in_vllm, folders)])


def load_in_vllm(folders: list[Path]) -> None:
    for folder in folders:
        VLLMEngine(str(folder), "float32", 64, 4).close()


def test_real_problems_account_for_every_completion(policy: str, tmp_path: Path) -> None:
    problems = []
    for i in range(12):
        solution = f"It is $\\boxed{{\\frac{{{i + 7}}}{{7}}}}$."
        problems.append({"problem": f"What is $\\frac{{{i}}}{{7}} + 1$?", "solution": solution})
    problems.append({"problem": "?", "solution": "none"})
    file = tmp_path / "math.jsonl"
    file.write_text("\n".join(json.dumps(problem) for problem in problems))
    task = ("task=math", f"task.path={file}", "rollout.max_tokens=64")
    output = train(tmp_path / "run", policy, *task, "trainer.max_epochs=2")
    assert "1 of 13 rows have no answer" in output and "no group had a signal" in output
    table = metrics(tmp_path / "run")
    kinds = [name for name in table if name.startswith("verify/")]
    assert len(kinds) == 7 and table[kinds].sum(axis=1).tolist() == [1.0, 1.0]
    assert len(rollouts(tmp_path / "run")) == 2 * 8 * 4


def test_the_portable_engine_trains_and_leaves_something_to_look_at(
    policy: str, tmp_path: Path
) -> None:
    shown = (
        "callbacks.completions.every=1",
        "callbacks.completions.terminal=true",
        "callbacks.evaluation.every=1",
        "callbacks.ledger.share=1",
        "callbacks.ledger.every=1",
        "callbacks.checkpoint=null",
        "callbacks.guards=null",
    )
    output = train(tmp_path, policy, "rollout=transformers", "trainer.max_epochs=3", *shown)
    assert summary(tmp_path)["status"] == "done" and summary(tmp_path)["logprob_gap_max"] < 1e-4
    assert "Rollouts of iteration 2" in output and "advantage" in output
    assert not list(tmp_path.rglob("*.ckpt")), "no checkpoint was asked for"
    pages = sorted((tmp_path / "completions").glob("*.html"))
    assert [page.stem for page in pages] == [f"iteration-{i:06d}" for i in range(3)]
    assert pages[0].read_text().count("<tr>") == 2 + 2 * 4  # two prompts with four rollouts each
    table = pd.read_csv(tmp_path / "metrics.csv")
    evaluations = table["eval/heldout/pass@4"].notna().sum()
    assert evaluations == 4, "one before training, and one after each of three iterations"
    first = rollouts(tmp_path).query("iteration == 0")
    assert_board(tmp_path / "tensorboard", set(first.prompt))


def assert_board(folder: Path, prompts: set[str]) -> None:
    """Check TensorBoard's files: data for every chart, completions, histograms and settings.

    Args:
        prompts: those of the first iteration.
    """
    events = EventAccumulator(str(folder), size_guidance={"scalars": 0})
    events.Reload()
    tags = events.Tags()
    charts = [tag for category in CHARTS.values() for chart in category.values() for tag in chart]
    missing = []
    for tag in charts:
        shown = any(re.fullmatch(tag, name) for name in tags["scalars"])
        if not shown and not tag.startswith("steer"):
            missing.append(tag)
    assert not missing, "a chart of the layout has nothing to show"
    assert len(CHARTS["exploration"]) == 10 and "custom_scalars__config__" in tags["tensors"]
    summaries = events.Tensors("rollouts/completions/text_summary")
    text = summaries[0].tensor_proto.string_val[0].decode()
    assert text.count("\n") == 1 + 2 * 4
    assert sum(f"| {prompt} |" in text for prompt in prompts) == 2
    assert "accuracy/groups" in tags["histograms"]
    session = events.summary_metadata["_hparams_/session_start_info"].plugin_data.content
    assert b"algo.advantage.beta_pos" in session and b"rollout.group_size" in session
    assert "final/eval/heldout/pass@8" in tags["scalars"]
    assert "last_10/reward/mean" in tags["scalars"]
