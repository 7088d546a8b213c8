"""`python train.py` from end to end, with the real vLLM on a small policy."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import textwrap
import time
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from transformers import AutoModelForCausalLM

from asym_lightning.embedded import EmbeddedSettings, WarmStart, byte_tokenizer, embedded_policy
from asym_lightning.export import export
from callbacks.board import CHARTS
from tests.conftest import ROOT
from tests.test_engine import FAMILIES

SMALL = ("rollout.prompts_per_iteration=8", "rollout.group_size=4", "callbacks.evaluation.problems=8")
EIGHT = ("rollout.group_size=8", "policy.prompts_per_mini_batch=4")
LOCKSTEP = ("-m", "tests.lockstep")  # as program: the runs of `-m` share a process and an engine
SAME = ["reward/mean", "entropy/policy", "entropy/positive", "length/mean", "solved/mixed", "loss/policy", "optimizer/grad_norm"]
ALSO_SAME = ("entropy/", "accuracy/", "train/", "diversity/", "length/", "covariance/", "ledger/", "verify/", "logprob_gain/")


@pytest.fixture(scope="module")
def policy(tmp_path_factory: pytest.TempPathFactory, worker_id: str) -> str:
    """A policy after a short warm start: it solves some problems, not all. The first process of the tests that comes makes it for all."""
    own = tmp_path_factory.getbasetemp()
    folder = embedded_policy(EmbeddedSettings(steps=150), (own if worker_id == "master" else own.parent) / "policies")
    return f"policy.path={folder}"


def train(folder: Path, *overrides: str, status: int = 0, program: tuple[str, ...] = ("train.py",)) -> str:
    """Run ``train.py`` in ``folder``; its output."""
    flags, rest = [o for o in overrides if o.startswith("-")], [o for o in overrides if not o.startswith("-")]
    command = [sys.executable, *program, *flags, *SMALL, *rest, f"hydra.run.dir={folder}", f"hydra.sweep.dir={folder}"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=900, check=False)
    assert done.returncode == status, done.stdout[-3000:] + done.stderr[-5000:]
    return done.stdout + done.stderr


def start(*arguments: str, **options: Any) -> subprocess.Popen[str]:
    """Start ``train.py`` as a terminal does: Ctrl-C reaches it, even where the tests run in the background and ignore it."""
    heed = partial(signal.signal, signal.SIGINT, signal.SIG_DFL)
    pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    return subprocess.Popen([sys.executable, "-u", "train.py", *arguments], cwd=ROOT, preexec_fn=heed, **pipes, **options)


def summary(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "summary.json").read_text())


def metrics(folder: Path) -> pd.DataFrame:
    table = pd.read_csv(folder / "metrics.csv")
    return table[table["reward/mean"].notna()].set_index("step")


def rollouts(folder: Path) -> pd.DataFrame:
    table = pd.concat(pd.read_parquet(path) for path in sorted(folder.glob("rollouts/*.parquet")))
    return table.sort_values(["iteration", "problem", "completion"], ignore_index=True)


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return AutoModelForCausalLM.from_pretrained(folder / "policy").state_dict()


def test_every_method_trains_three_iterations(policy: str, tmp_path: Path) -> None:
    names = sorted(path.stem for path in (ROOT / "conf" / "algo").glob("*.yaml"))
    everything = ("callbacks.ledger.every=1", "callbacks.ledger.share=1", "callbacks.evaluation.before=false")
    train(tmp_path, "-m", f"algo={','.join(names)}", policy, "trainer.max_epochs=3", *everything, *EIGHT, program=LOCKSTEP)
    folders = {summary(path.parent)["algorithm"]: path.parent for path in tmp_path.glob("*/summary.json")}
    assert sorted(folders) == names
    for name, folder in folders.items():
        got = summary(folder)
        assert got["status"] == "done" and got["iterations"] == 3 and got["logprob_gap_max"] < 1e-4, name
        assert got["reward"]["last"] > 0, "the policy must solve something for this test to say anything"
        table = metrics(folder)
        assert (table["optimizer/grad_norm"] > 0).all() and (table["loss/policy"].abs() > 0).any(), name
        assert set(pd.read_csv(folder / "metrics.csv")) >= {"eval/heldout/pass@1", "logprob_gain/positive", "time/sync"}
        assert list((folder / "tensorboard").glob("events*")) and (folder / "checkpoints" / "last.ckpt").is_file()
    first = {name: rollouts(folder).query("iteration == 0").drop(columns="iteration") for name, folder in folders.items()}
    mixed = first["grpo"].groupby("problem").filter(lambda group: group.reward.nunique() > 1)
    assert len(first["dapo"].merge(mixed)) >= len(mixed) > 0, "dynamic sampling replaces groups without a signal and keeps the others"
    for name in first.keys() - {"dapo"}:
        pd.testing.assert_frame_equal(first[name], first["grpo"], obj=f"{name}: runs that differ in algo= start from the same rollouts")


def test_methods_that_look_beyond_a_rank_do_the_same_on_two_processes(policy: str, tmp_path: Path) -> None:
    names = ["asymgrpo_adaptive", "aepo", "clip_cov", "dapo", "grpo_kl", "reinforce_pp", "siren", "top_entropy"]
    for devices in (1, 2):
        folder = tmp_path / str(devices)
        settings = (f"algo={','.join(names)}", policy, "trainer.max_epochs=3", f"trainer.devices={devices}", *EIGHT)
        train(folder, "-m", *settings, program=LOCKSTEP)
    one, two = ({summary(p.parent)["algorithm"]: p.parent for p in (tmp_path / d).glob("*/summary.json")} for d in "12")
    assert sorted(one) == sorted(two) == sorted(names)
    for name in names:
        if name == "dapo":  # each rank keeps its own groups
            assert metrics(two[name])["dynamic/batches"].max() > 1 and summary(two[name])["status"] == "done"
            continue
        steered = [c for c in metrics(one[name]) if c.startswith(("steer/", "kl/", "resample/"))]
        pd.testing.assert_frame_equal(
            metrics(one[name])[SAME + steered], metrics(two[name])[SAME + steered], rtol=1e-3, atol=1e-6, obj=name
        )


def readme_example(folder: Path) -> None:
    """Write the function and the YAML file of README's "Add a method" to ``folder``."""
    code, config = re.findall(r"```(?:python|yaml)\n(.*?)```", (ROOT / "README.md").read_text().split("## Add a method")[1], re.DOTALL)[:2]
    (folder / "algo").mkdir()
    (folder / "my_methods.py").write_text(textwrap.dedent(code))
    (folder / "algo" / "leave_one_out.yaml").write_text(textwrap.dedent(config))


def test_the_method_of_the_readme_runs_from_a_folder_of_its_own(policy: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mine = tmp_path / "mine"
    mine.mkdir()
    readme_example(mine)
    own, rloo = tmp_path / "own", tmp_path / "rloo"
    settings = (policy, *EIGHT, "trainer.max_epochs=2")
    train(own, f"--config-dir={mine}", "algo=leave_one_out", "trainer.devices=2", *settings)
    train(rloo, "algo=rloo", *settings)
    assert summary(own)["algorithm"] == "leave_one_out" and summary(own)["config"]["trainer"]["devices"] == 2
    pd.testing.assert_frame_equal(metrics(own)[SAME], metrics(rloo)[SAME], rtol=1e-3, atol=1e-6)


def test_dynamic_sampling_learns_from_groups_with_a_signal(policy: str, tmp_path: Path) -> None:
    train(tmp_path, "algo=dapo", policy, "trainer.max_epochs=3", "rollout.prompts_per_iteration=4", "rollout.group_size=8")
    table = metrics(tmp_path)
    groups = rollouts(tmp_path).groupby(["iteration", "problem"]).reward
    assert len(groups) == 12
    assert (groups.nunique() > 1).mean() == pytest.approx(1 - table["dynamic/filled"].mean())
    assert table["dynamic/batches"].max() > 1 and (table["dynamic/wasted_tokens"] > 0).any()


def test_two_processes_do_what_one_does(policy: str, tmp_path: Path) -> None:
    settings = ("trainer.max_epochs=2", "policy.tokens_per_micro_batch=128", "callbacks.ledger.share=1.0")
    for devices in (1, 2):  # the two share one engine
        train(tmp_path / str(devices), policy, f"trainer.devices={devices}", f"rollout.tensor_parallel_size={devices}", *settings)
    one, two = tmp_path / "1", tmp_path / "2"
    assert len(list((two / "rollouts").glob("*rank-1.parquet"))) == 2
    pd.testing.assert_frame_equal(rollouts(one), rollouts(two))
    also = [name for name in metrics(one) if name.startswith(ALSO_SAME) and name not in SAME]
    assert len(also) > 30 and len(rollouts(one).groupby("iteration").tokens.sum()) == 2
    pd.testing.assert_frame_equal(metrics(one)[SAME + also], metrics(two)[SAME + also], rtol=1e-3, atol=1e-7)
    for name in ("avg@8", "pass@8", "distinct_correct"):
        assert summary(one)["evaluation"]["after"][f"eval/heldout/{name}"] == summary(two)["evaluation"]["after"][f"eval/heldout/{name}"]


def test_shards_on_two_nodes_do_what_one_process_does(policy: str, tmp_path: Path) -> None:
    """Two nodes of one rank each, as torchrun starts them."""
    settings = (policy, "trainer.max_epochs=2", "policy.tokens_per_micro_batch=128", "policy.prompts_per_mini_batch=4")
    train(tmp_path / "1", *settings)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    rendezvous = ("--nnodes=2", "--nproc-per-node=1", "--rdzv-backend=c10d", f"--rdzv-endpoint=127.0.0.1:{port}", "--rdzv-id=test")
    shards = ("trainer=fsdp2", "trainer.accelerator=cpu", "trainer.precision=32-true", "trainer.num_nodes=2", "trainer.devices=1")
    command = [sys.executable, "-m", "torch.distributed.run", *rendezvous, "train.py", *SMALL, *settings, *shards]
    one, two = tmp_path / "1", tmp_path / "2"
    pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    nodes = [subprocess.Popen([*command, f"hydra.run.dir={two}"], cwd=ROOT, **pipes) for _ in range(2)]
    outputs = [node.communicate(timeout=300)[0] for node in nodes]
    assert [node.returncode for node in nodes] == [0, 0], outputs[0][-3000:] + outputs[1][-3000:]
    assert summary(two)["logprob_gap_max"] < 1e-4 and len(list((two / "rollouts").glob("*rank-1.parquet"))) == 2
    pd.testing.assert_frame_equal(rollouts(one), rollouts(two))
    pd.testing.assert_frame_equal(metrics(one)[SAME], metrics(two)[SAME], rtol=1e-3, atol=1e-6)
    want, got = weights(one), weights(two)
    for name in want:
        torch.testing.assert_close(got[name], want[name], rtol=0, atol=1e-4)
    export = [sys.executable, "-m", "asym_lightning.export", str(two / "checkpoints" / "last.ckpt"), str(tmp_path / "exported")]
    subprocess.run(export, cwd=ROOT, check=True, timeout=100)
    exported = AutoModelForCausalLM.from_pretrained(tmp_path / "exported").state_dict()
    assert all(torch.equal(exported[name], got[name]) for name in got)


SHARDS = ("trainer=fsdp2", "trainer.accelerator=cpu", "trainer.precision=32-true", "trainer.devices=2", "rollout=transformers")


@pytest.mark.parametrize("strategy", [(), SHARDS], ids=["whole", "shards"])
def test_a_resumed_run_is_the_uninterrupted_one(strategy: tuple[str, ...], policy: str, tmp_path: Path) -> None:
    steered = ("algo=asymgrpo_adaptive", "modulation@algo.modulation=adaptive_entropy", "algo.modulation.adaptive_entropy.target=9")
    common = (policy, *steered, *strategy, "policy.prompts_per_mini_batch=4")
    train(tmp_path, "-m", *common, "trainer.max_epochs=4,2", "hydra.sweep.subdir=\\${trainer.max_epochs}", program=LOCKSTEP)
    half = tmp_path / "2"
    train(tmp_path / "rest", *common, "trainer.max_epochs=4", f"ckpt_path={half / 'checkpoints' / 'last.ckpt'}")
    whole = metrics(tmp_path / "4")
    both = pd.concat([metrics(half), metrics(tmp_path / "rest")])
    columns = [*SAME, *(name for name in whole if name.startswith(("steer/", "ledger/", "entropy/high")))]
    assert len(columns) == len(SAME) + 5 + 12 and whole["steer/entropy_coef"].is_monotonic_increasing
    pd.testing.assert_frame_equal(whole[columns], both[columns])
    want, got = weights(tmp_path / "4"), weights(tmp_path / "rest")
    assert all(torch.equal(want[name], got[name]) for name in want)


def test_ctrl_c_ends_with_a_checkpoint_and_a_summary(policy: str, tmp_path: Path) -> None:
    running = start(f"hydra.run.dir={tmp_path}", *SMALL, policy, "trainer.max_epochs=100000")
    deadline = time.time() + 200
    while len(list(tmp_path.glob("rollouts/*"))) < 3 and running.poll() is None and time.time() < deadline:
        time.sleep(0.2)
    running.send_signal(signal.SIGINT)
    output = running.communicate(timeout=100)[0]
    assert running.returncode == 130, output[-5000:]
    assert "Traceback" not in output
    got = summary(tmp_path)
    assert got["status"] == "interrupted" and got["iterations"] >= 3 and (tmp_path / "policy" / "model.safetensors").is_file()
    state = torch.load(tmp_path / "checkpoints" / "last.ckpt", weights_only=True)
    assert state["loops"]["fit_loop"]["epoch_progress"]["current"]["completed"] == got["iterations"]


def test_ctrl_c_during_the_warm_start_leaves_no_policy(tmp_path: Path) -> None:
    environment = os.environ | {"XDG_CACHE_HOME": str(tmp_path / "cache")}
    running = start(f"hydra.run.dir={tmp_path / 'run'}", env=environment)
    assert running.stdout is not None
    while "warm start" not in (line := running.stdout.readline()):
        assert line, "the warm start was never announced"
    time.sleep(1)
    running.send_signal(signal.SIGINT)
    output = running.communicate(timeout=100)[0]
    assert running.returncode == 130 and "Traceback" not in output, output[-5000:]
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
    overrides = ("algo=grpo", "callbacks.rollout._target_=tests.stale.StaleRollout", "policy.optimizer.warmup_steps=0")
    output = train(tmp_path, policy, *overrides, "trainer.max_epochs=5", "callbacks.evaluation.problems=0", status=1)
    assert "the engine's weights are stale" in output
    got = summary(tmp_path)
    assert got["status"] == "failed" and 1 <= got["iterations"] <= 2


def test_each_family_goes_from_folder_to_export(tmp_path: Path) -> None:
    for name, make in FAMILIES.items():
        torch.manual_seed(0)
        make().save_pretrained(tmp_path / name)
        byte_tokenizer().save_pretrained(tmp_path / name)
    paths = ",".join(str(tmp_path / name) for name in FAMILIES)
    # every answer of a random model is wrong, and REINFORCE learns from wrong answers
    off_policy = ("policy.prompts_per_mini_batch=4", "algo=reinforce", "policy.optimizer.learning_rate=1e-3")
    train(tmp_path / "runs", "-m", "policy=hf", f"policy.path={paths}", *off_policy, "trainer.max_epochs=2", program=LOCKSTEP)
    assert len(list((tmp_path / "runs").glob("*/summary.json"))) == len(FAMILIES)
    for run in (tmp_path / "runs").glob("*/summary.json"):
        got, folder = summary(run.parent), run.parent
        assert got["status"] == "done" and got["logprob_gap_max"] < 1e-4
        exported = tmp_path / "exported" / Path(got["config"]["policy"]["path"]).name
        export(folder / "checkpoints" / "last.ckpt", exported)
        before = AutoModelForCausalLM.from_pretrained(got["config"]["policy"]["path"]).state_dict()
        after, same = AutoModelForCausalLM.from_pretrained(exported).state_dict(), weights(folder)
        assert all(torch.equal(after[name], same[name]) for name in same)
        assert any(not torch.equal(after[name], before[name]) for name in before)
    load = "import sys; from asym_lightning.rollout.vllm import VLLMEngine; [VLLMEngine(p, 'float32', 64, 4).close() for p in sys.argv[1:]]"
    folders = [str(path) for path in (tmp_path / "exported").iterdir()]
    subprocess.run([sys.executable, "-c", load, *folders], cwd=ROOT, check=True, timeout=200)  # vLLM loads what was exported
    assert len(folders) == len(FAMILIES)


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
    shown += ("callbacks.ledger.share=1", "callbacks.ledger.every=1")
    output = train(tmp_path, policy, "rollout=transformers", "trainer.max_epochs=3", *shown)
    assert summary(tmp_path)["status"] == "done" and summary(tmp_path)["logprob_gap_max"] < 1e-4
    assert "Rollouts of iteration 2" in output and "advantage" in output
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
