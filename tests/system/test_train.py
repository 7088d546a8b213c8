"""`python train.py` from end to end, with the real vLLM on a small policy."""

import json
import os
import re
import signal
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from transformers import AutoModelForCausalLM

from asym_lightning.commands.export import export
from asym_lightning.learner.embedded import EmbeddedSettings, WarmStart, byte_tokenizer, embedded_policy
from asym_lightning.rollout.vllm import VLLMEngine
from callbacks.board import CHARTS
from tests.support import preloaded
from tests.support.commands import LIMIT_S, LOCKSTEP, SAME, SMALL, metrics, rollouts, start, summary, train, weights
from tests.support.engines import FAMILIES
from tests.support.ranks import free_port, rank_environment

ALSO_SAME = ("entropy/", "accuracy/", "train/", "diversity/", "length/", "covariance/", "ledger/", "verify/", "logprob_gain/")
TWICE = ("task.train_size=256", "trainer.max_epochs=2", "policy.tokens_per_micro_batch=128")
TWICE += ("policy.prompts_per_mini_batch=4", "callbacks.ledger.share=1.0")

ON_CPU = ("trainer.accelerator=cpu", "trainer.precision=32-true")
SHARDS = ("trainer=fsdp2", *ON_CPU)
ZERO = ("trainer=deepspeed", "trainer.strategy.stage=3", *ON_CPU)


@pytest.fixture(scope="module")
def alone(policy: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of one process, with the settings ``TWICE``, as a user starts it: in an interpreter of its own."""
    folder = tmp_path_factory.mktemp("alone")
    output = train(folder, policy, *TWICE, fresh=True)
    assert "Traceback" not in output and "leaked" not in output
    return folder


def test_two_processes_do_what_one_does(policy: str, alone: Path, tmp_path: Path) -> None:
    output = train(tmp_path, policy, *TWICE, "trainer.devices=2", "rollout.tensor_parallel_size=2", fresh=True)  # they share an engine
    assert "leaked" not in output and "nitializing" not in output
    one, two = alone, tmp_path
    assert len(list((two / "rollouts").glob("*rank-1.parquet"))) == 2
    pd.testing.assert_frame_equal(rollouts(one), rollouts(two))
    also = [name for name in metrics(one) if name.startswith(ALSO_SAME) and name not in SAME]
    assert len(also) > 30 and len(rollouts(one).groupby("iteration").tokens.sum()) == 2
    pd.testing.assert_frame_equal(metrics(one)[SAME + also], metrics(two)[SAME + also], rtol=1e-3, atol=1e-7)
    for name in ("avg@8", "pass@8", "distinct_correct"):
        assert summary(one)["evaluation"]["after"][f"eval/heldout/{name}"] == summary(two)["evaluation"]["after"][f"eval/heldout/{name}"]


NODES = ("trainer.num_nodes=2", "trainer.devices=1")


def test_shards_on_two_nodes_do_what_one_process_does(policy: str, alone: Path, tmp_path: Path) -> None:
    """Two nodes of one rank each, with the variables that torchrun sets."""
    two, port = tmp_path / "2", free_port()
    line = ["train.py", *SMALL, policy, *TWICE, *SHARDS, *NODES, f"hydra.run.dir={two}"]
    node = [{"LOCAL_RANK": "0", "GROUP_RANK": str(rank), "LOCAL_WORLD_SIZE": "1"} for rank in range(2)]
    at_once([preloaded.command(line, environment=os.environ | rank_environment(rank, 2, port) | node[rank]) for rank in range(2)])
    assert_same_run(alone, two)


@pytest.mark.full
def test_torchrun_starts_shards_on_two_nodes(policy: str, alone: Path, tmp_path: Path) -> None:
    """The same with torchrun itself."""
    two, endpoint = tmp_path / "2", f"--rdzv-endpoint=127.0.0.1:{free_port()}"
    rendezvous = ("--nnodes=2", "--nproc-per-node=1", "--rdzv-backend=c10d", endpoint, "--rdzv-id=test")
    line = ["-m", "torch.distributed.run", *rendezvous, "train.py", *SMALL, policy, *TWICE, *SHARDS, *NODES, f"hydra.run.dir={two}"]
    at_once([preloaded.command(line) for _ in range(2)])
    assert_same_run(alone, two)


def test_deepspeed_under_slurm_does_what_one_process_does(policy: str, alone: Path, tmp_path: Path) -> None:
    """Two nodes of one task each, with the variables that srun sets."""
    two = tmp_path / "2"
    line = ["train.py", *SMALL, policy, *TWICE, *ZERO, *NODES, f"hydra.run.dir={two}"]
    job = {"JOB_ID": 1, "JOB_NAME": "train", "NTASKS": 2, "NTASKS_PER_NODE": 1, "NNODES": 2, "NODELIST": "localhost"}
    given = os.environ | {"MASTER_PORT": str(free_port())}  # Slurm sets none, and Lightning makes one of the job's number
    tasks = [
        given | {f"SLURM_{key}": str(value) for key, value in (job | {"PROCID": rank, "NODEID": rank, "LOCALID": 0}).items()}
        for rank in range(2)
    ]
    output = at_once([preloaded.command(line, environment=task) for task in tasks])[0]
    assert not re.search("deprecated|WARNING|UserWarning|nitializing", output), output
    assert_same_run(alone, two)


def at_once(running: Sequence[preloaded.Process]) -> list[str]:
    """The outputs of commands that run beside each other, when all have ended well."""
    return preloaded.finished(running, LIMIT_S, [0] * len(running))


def assert_same_run(one: Path, two: Path) -> None:
    """The run of two ranks did what that of one did; its last checkpoint holds what it ended with."""
    assert summary(two)["logprob_gap_max"] < 1e-4 and len(list((two / "rollouts").glob("*rank-1.parquet"))) == 2
    pd.testing.assert_frame_equal(rollouts(one), rollouts(two))
    pd.testing.assert_frame_equal(metrics(one)[SAME], metrics(two)[SAME], rtol=1e-3, atol=1e-6)
    want, got = weights(one), weights(two)
    for name in want:
        torch.testing.assert_close(got[name], want[name], rtol=0, atol=1e-4)
    export = ["-m", "asym_lightning.export", str(two / "checkpoints" / "last.ckpt"), str(two / "exported")]
    at_once([preloaded.command(export)])
    exported = AutoModelForCausalLM.from_pretrained(two / "exported").state_dict()
    assert all(torch.equal(exported[name], got[name]) for name in got)


@pytest.mark.parametrize(
    ("strategy", "ranks"),
    [
        pytest.param((), 1, id="whole"),
        pytest.param((*SHARDS, "rollout=transformers"), 2, id="shards", marks=pytest.mark.full),
        pytest.param((*ZERO, "rollout=transformers"), 2, id="zero", marks=pytest.mark.full),
    ],
)
def test_a_resumed_run_is_the_uninterrupted_one(strategy: tuple[str, ...], ranks: int, policy: str, tmp_path: Path) -> None:
    steered = ("algo=asymgrpo_adaptive", "modulation@algo.modulation=adaptive_entropy", "algo.modulation.adaptive_entropy.target=9")
    common = (policy, *steered, *strategy, "policy.prompts_per_mini_batch=4")
    both_lengths = ("trainer.max_epochs=4,2", "hydra.sweep.subdir=\\${trainer.max_epochs}")
    train(tmp_path, "-m", *common, *both_lengths, program=LOCKSTEP, ranks=ranks)
    half = tmp_path / "2"
    train(tmp_path / "rest", *common, "trainer.max_epochs=4", f"ckpt_path={half / 'checkpoints' / 'last.ckpt'}", ranks=ranks)
    whole = metrics(tmp_path / "4")
    both = pd.concat([metrics(half), metrics(tmp_path / "rest")])
    columns = [*SAME, *(name for name in whole if name.startswith(("steer/", "ledger/", "entropy/high")))]
    assert len(columns) == len(SAME) + 5 + 12 and whole["steer/entropy_coef"].is_monotonic_increasing
    pd.testing.assert_frame_equal(whole[columns], both[columns])
    want, got = weights(tmp_path / "4"), weights(tmp_path / "rest")
    assert all(torch.equal(want[name], got[name]) for name in want)


@pytest.mark.parametrize(
    ("kind", "ranks"), [(signal.SIGINT, ()), (signal.SIGTERM, ("trainer.devices=2", "rollout=transformers"))], ids=["Ctrl-C", "SIGTERM"]
)
def test_a_signal_ends_a_run_with_a_checkpoint_and_a_summary(
    kind: signal.Signals, ranks: tuple[str, ...], policy: str, tmp_path: Path
) -> None:
    running = start(f"hydra.run.dir={tmp_path}", *SMALL, policy, "trainer.max_epochs=100000", *ranks)
    assert running.wait_for(lambda: len(list(tmp_path.glob("rollouts/*000002*"))) > len(ranks) // 2, 200), running.output
    running.send_signal(kind)
    status, output = running.wait(100), running.output
    assert status == 130, output[-5000:]
    assert "Traceback" not in output and "interrupted: this iteration is finished and saved" in output
    got = summary(tmp_path)
    assert got["status"] == "interrupted" and got["iterations"] >= 3 and (tmp_path / "policy" / "model.safetensors").is_file()
    state = torch.load(tmp_path / "checkpoints" / "last.ckpt", weights_only=True)
    assert state["loops"]["fit_loop"]["epoch_progress"]["current"]["processed"] == got["iterations"]


def test_ctrl_c_during_the_warm_start_leaves_no_policy(tmp_path: Path) -> None:
    environment = os.environ | {"XDG_CACHE_HOME": str(tmp_path / "cache")}
    running = start(f"hydra.run.dir={tmp_path / 'run'}", environment=environment)
    assert running.wait_for(lambda: "warm start" in running.output, 100), "the warm start was never announced"
    time.sleep(1)
    running.send_signal(signal.SIGINT)
    status, output = running.wait(100), running.output
    assert status == 130 and "Traceback" not in output, output[-5000:]
    assert [path.suffix for path in (tmp_path / "cache" / "asym-lightning").iterdir()] == [".lock"]


def test_an_interrupt_before_the_warm_start_has_a_step_is_no_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(self: WarmStart) -> Any:
        raise KeyboardInterrupt

    monkeypatch.setattr(WarmStart, "demonstrations", interrupted)
    with pytest.raises(SystemExit) as stop:  # Lightning's way to end after Ctrl-C
        embedded_policy(EmbeddedSettings(steps=2), tmp_path)
    assert isinstance(stop.value.__context__, KeyboardInterrupt)
    assert [path.suffix for path in tmp_path.iterdir()] == [".lock"]


def test_stale_engine_weights_stop_the_run(policy: str, tmp_path: Path) -> None:
    overrides = ("algo=grpo", "callbacks.rollout._target_=tests.support.stale.StaleRollout", "policy.optimizer.warmup_steps=0")
    output = train(tmp_path, policy, *overrides, "trainer.max_epochs=5", "callbacks.evaluation.problems=0", status=1)
    assert "the engine's weights are stale" in output
    got = summary(tmp_path)
    assert got["status"] == "failed" and 1 <= got["iterations"] <= 2


@pytest.mark.parametrize("names", [["qwen3-tied"], pytest.param(["llama-untied", "qwen2-tied"], marks=pytest.mark.full)])
def test_each_family_goes_from_folder_to_export(names: list[str], tmp_path: Path) -> None:
    for name in names:
        torch.manual_seed(0)
        FAMILIES[name]().save_pretrained(tmp_path / name)
        byte_tokenizer().save_pretrained(tmp_path / name)
    paths = ",".join(str(tmp_path / name) for name in names)
    # every answer of a random model is wrong, and REINFORCE learns from wrong answers
    off_policy = ("policy.prompts_per_mini_batch=4", "algo=reinforce", "policy.optimizer.learning_rate=1e-3")
    train(tmp_path / "runs", "-m", "policy=hf", f"policy.path={paths}", *off_policy, "trainer.max_epochs=2", program=LOCKSTEP)
    runs = [path.parent for path in (tmp_path / "runs").glob("*/summary.json")]
    assert len(runs) == len(names)
    for folder in runs:
        got = summary(folder)
        assert got["status"] == "done" and got["logprob_gap_max"] < 1e-4
        exported = tmp_path / "exported" / Path(got["config"]["policy"]["path"]).name
        export(folder / "checkpoints" / "last.ckpt", exported)
        before = AutoModelForCausalLM.from_pretrained(got["config"]["policy"]["path"]).state_dict()
        after, same = AutoModelForCausalLM.from_pretrained(exported).state_dict(), weights(folder)
        assert all(torch.equal(after[name], same[name]) for name in same)
        assert any(not torch.equal(after[name], before[name]) for name in before)
    folders = sorted((tmp_path / "exported").iterdir())
    assert len(folders) == len(names)
    at_once([preloaded.Process(load, folders)])  # vLLM loads what was exported


def load(folders: list[Path]) -> None:
    for folder in folders:
        VLLMEngine(str(folder), "float32", 64, 4).close()


def test_real_problems_account_for_every_completion(policy: str, tmp_path: Path) -> None:
    problems = [
        {"problem": f"What is $\\frac{{{i}}}{{7}} + 1$?", "solution": f"It is $\\boxed{{\\frac{{{i + 7}}}{{7}}}}$."} for i in range(12)
    ]
    (tmp_path / "math.jsonl").write_text("\n".join(json.dumps(problem) for problem in [*problems, {"problem": "?", "solution": "none"}]))
    task = ("task=math", f"task.path={tmp_path / 'math.jsonl'}", "rollout.max_tokens=64")
    output = train(tmp_path / "run", policy, *task, "trainer.max_epochs=2")
    assert "1 of 13 rows have no answer" in output and "no group had a signal" in output
    table = metrics(tmp_path / "run")
    kinds = [name for name in table if name.startswith("verify/")]
    assert len(kinds) == 7 and table[kinds].sum(axis=1).tolist() == [1.0, 1.0]
    assert len(rollouts(tmp_path / "run")) == 2 * 8 * 4


def test_the_portable_engine_trains_and_leaves_something_to_look_at(policy: str, tmp_path: Path) -> None:
    shown = ("callbacks.completions.every=1", "callbacks.completions.terminal=true", "callbacks.evaluation.every=1")
    shown += ("callbacks.ledger.share=1", "callbacks.ledger.every=1", "callbacks.checkpoint=null", "callbacks.guards=null")
    output = train(tmp_path, policy, "rollout=transformers", "trainer.max_epochs=3", *shown)
    assert summary(tmp_path)["status"] == "done" and summary(tmp_path)["logprob_gap_max"] < 1e-4
    assert "Rollouts of iteration 2" in output and "advantage" in output
    assert not list(tmp_path.rglob("*.ckpt")), "none was asked for"
    pages = sorted((tmp_path / "completions").glob("*.html"))
    assert [page.stem for page in pages] == [f"iteration-{i:06d}" for i in range(3)]
    first = rollouts(tmp_path).query("iteration == 0")
    assert pages[0].read_text().count("<tr>") == 2 + 2 * 4  # two prompts with four rollouts each
    table = pd.read_csv(tmp_path / "metrics.csv")
    assert table["eval/heldout/pass@4"].notna().sum() == 4  # before, after one, after two, after the last
    events = EventAccumulator(str(tmp_path / "tensorboard"), size_guidance={"scalars": 0})
    events.Reload()
    tags = events.Tags()
    charts = [tag for category in CHARTS.values() for chart in category.values() for tag in chart]
    missing = [tag for tag in charts if not any(re.fullmatch(tag, name) for name in tags["scalars"]) and not tag.startswith("steer")]
    assert not missing, "a chart of the layout has nothing to show"
    assert len(CHARTS["exploration"]) == 10 and "custom_scalars__config__" in tags["tensors"]
    text = events.Tensors("rollouts/completions/text_summary")[0].tensor_proto.string_val[0].decode()
    assert text.count("\n") == 1 + 2 * 4 and str(first.problem.iloc[0]).split(">")[0] in "".join(first.problem)
    assert "accuracy/groups" in tags["histograms"]
    session = events.summary_metadata["_hparams_/session_start_info"].plugin_data.content
    assert b"algo.advantage.beta_pos" in session and b"rollout.group_size" in session
    assert "final/eval/heldout/pass@8" in tags["scalars"] and "last_10/reward/mean" in tags["scalars"]


def test_a_broken_cache_is_rebuilt(tmp_path: Path) -> None:
    settings = EmbeddedSettings(steps=2)
    folder = embedded_policy(settings, tmp_path)
    good = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(good[:-10])
    assert (embedded_policy(settings, tmp_path) / "model.safetensors").read_bytes() == good
    os.remove(folder / "card.json")
    assert (embedded_policy(settings, tmp_path) / "model.safetensors").read_bytes() == good
    stamp = (folder / "card.json").stat().st_mtime_ns
    assert embedded_policy(settings, tmp_path) == folder and (folder / "card.json").stat().st_mtime_ns == stamp
