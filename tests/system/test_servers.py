"""Rollouts by real vLLM server processes: one that a run starts, and one that is given by URL."""

import http.client
import json
import os
import signal
import sys
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
import psutil
import pytest
import torch
from lightning import Trainer

from asym_lightning.commands.cli import entry
from asym_lightning.learner.probe import probe_logprobs
from asym_lightning.rollout.base import Sample
from asym_lightning.rollout.serve import main as serve
from asym_lightning.rollout.server_client import Client, EngineServerError, Server
from asym_lightning.rollout.server_settings import ServerSettings
from asym_lightning.rollout.vllm import VLLMEngine
from asym_lightning.rollout.weight_folder import buckets
from asym_lightning.rollout.weight_push import Pusher
from tests.support.engines import PROMPTS, SAMPLING, SEEDS, gap, policy_in, shake
from tests.support.file_transfer import Files
from tests.support.servers import KEY, KEY_VARIABLE, Outside, Served, new_engine


def ids(drawn: list[list[Sample]]) -> list[list[list[int]]]:
    return [[sample.token_ids for sample in samples] for samples in drawn]


@pytest.mark.parametrize("which", ["own", "given"])  # untied and tied output head
def test_changed_weights_reach_the_servers_and_stale_ones_show(
    which: str, request: pytest.FixtureRequest
) -> None:
    served: Served = request.getfixturevalue(f"{which}_server")
    policy, engine = served.policy, served.engine
    shake(policy)
    with pytest.raises(EngineServerError, match="no weights were synced"):
        served.samples()
    engine.sync(policy.weights(), 3)
    assert gap(policy, engine) < 1e-4
    shake(policy)
    assert gap(policy, engine) > 1e-2, "stale weights must show in the log-probs"
    engine.publish(policy.weights(), 4)
    assert gap(policy, engine) > 1e-2, "published weights are not loaded yet"
    assert served.versions() == {3}
    engine.load(4)
    assert gap(policy, engine) < 1e-4
    assert served.versions() == {4} == {engine.version}


def test_weights_can_be_sent_bucket_by_bucket(
    own_server: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    policy, engine, files = own_server.policy, own_server.engine, Files(own_server.folder)
    small_buckets = partial(buckets, bucket_bytes=2**16)
    monkeypatch.setattr(engine, "_pusher", Pusher(files, torch.float32))
    monkeypatch.setattr("asym_lightning.rollout.weight_push.buckets", small_buckets)
    for version in (7, 8):
        shake(policy)
        if version == 8:
            assert gap(policy, engine) > 1e-2
        engine.sync(policy.weights(), version)
        assert gap(policy, engine) < 1e-4
        assert own_server.versions() == {version}
    assert files.opened == 1 and files.sent >= 2 * 4
    with pytest.raises(EngineServerError, match="hold the weights of iteration 8, not of 7"):
        engine.load(7)


def test_what_a_server_cannot_take_is_said(
    own_server: Served, outside: Outside, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = Files(own_server.folder)

    async def wrong(client: Client, _: Any) -> None:
        update = {"names": ["a"], "dtype_names": [], "shapes": [], "path": "nowhere"}
        await client.post("/update_weights", {"update_info": update})

    monkeypatch.setattr(files, "send", wrong)
    monkeypatch.setattr(own_server.engine, "_pusher", Pusher(files, torch.float32))
    gathered = []

    def weights() -> Any:
        for name, tensor in own_server.policy.weights():
            gathered.append(name)
            yield name, tensor

    refused = "did not take new weights: /update_weights: status 500"
    with pytest.raises(EngineServerError, match=refused):
        own_server.engine.publish(weights(), 1)
    every_name = dict(own_server.policy.weights())
    assert len(gathered) == len(every_name), "ranks gather shards in step, even if one fails"
    monkeypatch.setattr("asym_lightning.rollout.servers.TRANSPORTS", {"nccl": lambda: files})
    advice = "takes weights through a folder only: start it with --weight-transfer nccl"
    with pytest.raises(EngineServerError, match=advice):
        new_engine("", outside.settings(transfer="nccl"), own_server.folder)


def test_a_server_samples_what_the_engine_in_process_does(given_server: Served) -> None:
    policy, engine = given_server.policy, given_server.engine
    inside = VLLMEngine(str(given_server.folder), "float32", 64, 256)
    inside.sync(policy.weights(), 5)
    engine.sync(policy.weights(), 5)
    generator = torch.Generator().manual_seed(0)
    prompts = [*PROMPTS, *torch.randint(256, (40, 40), generator=generator).tolist()]
    seeds = [*SEEDS, *range(40)]
    one = inside.generate(prompts, SAMPLING, seeds)
    other = engine.generate(prompts, SAMPLING, seeds)
    inside.close()
    samples = [[sample for row in rows for sample in row] for rows in (one, other)]
    assert [len(row) for row in one] == [len(row) for row in other]
    for from_inside, from_server in zip(*samples, strict=True):
        assert from_inside.token_ids == from_server.token_ids
        assert from_inside.truncated == from_server.truncated
        assert from_inside.version == from_server.version
    logps = [torch.tensor([lp for s in drawn for lp in s.logprobs]) for drawn in samples]
    torch.testing.assert_close(*logps, atol=1e-5, rtol=0)


def test_logprobs_of_prompts_are_the_policys(given_server: Served) -> None:
    policy = given_server.policy
    given_server.engine.sync(policy.weights(), 6)
    prompts = [PROMPTS[1], [7], PROMPTS[0]]
    policy.trainer = Trainer(
        accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False
    )
    got = given_server.engine.prompt_logprobs(prompts)
    want, _ = probe_logprobs(policy, prompts)
    for found, expected in zip(got, want, strict=True):
        assert found == pytest.approx(expected, abs=1e-5)


def test_weights_of_another_run_stop_this_one(given_server: Served, outside: Outside) -> None:
    policy = given_server.policy
    given_server.engine.sync(policy.weights(), 7)
    other = outside.engine()
    other.sync(policy.weights(), 7)
    with pytest.raises(EngineServerError, match="or another run uses it too"):
        given_server.samples()
    other.publish(policy.weights(), 8)
    other.close()
    no_folder = r"did not take the weights in .*: FileNotFoundError: there is no such folder"
    with pytest.raises(EngineServerError, match=no_folder):
        other.load(8)
    no_fit = "does not fit this run: dtype=float32, the trainer asks for bfloat16"
    with pytest.raises(EngineServerError, match=no_fit):
        outside.engine("bfloat16")


def test_an_engine_that_is_closed_does_not_wait_for_its_servers(outside: Outside) -> None:
    engine = outside.engine()
    engine.sync(policy_in(outside.folder, tied=True).weights(), 1)
    os.kill(outside.pid, signal.SIGSTOP)  # the server answers no request now
    try:
        with ThreadPoolExecutor(1) as thread:
            sampled = thread.submit(engine.generate, PROMPTS, SAMPLING, SEEDS)
            engine.close()
            with pytest.raises(EngineServerError, match="the run has ended"):
                sampled.result(60)
    finally:
        os.kill(outside.pid, signal.SIGCONT)


def test_a_completion_that_another_run_ended_is_no_completion(given_server: Served) -> None:
    engine = given_server.engine
    engine.sync(given_server.policy.weights(), 6)
    versions = [{"version": engine._label}]
    choice = {"weight_versions": versions, "finish_reason": "abort", "token_ids": [1]}
    early = r"ended a completion early \(abort\): another run uses it too"
    with pytest.raises(EngineServerError, match=early):
        engine._sample(choice)


def test_every_route_needs_the_key_and_nothing_shows_it(
    given_server: Served, outside: Outside, monkeypatch: pytest.MonkeyPatch
) -> None:
    def status(path: str, key: str | None = None) -> int:
        connection = http.client.HTTPConnection(outside.url.removeprefix("http://"), timeout=30)
        headers = {"Content-Type": "application/json"}
        if key:
            headers["Authorization"] = f"Bearer {key}"
        connection.request("GET" if path == "/health" else "POST", path, "{}", headers)
        return connection.getresponse().status

    assert status("/health") == 200
    for path in ("/collective_rpc", "/pause", "/v1/completions", "/inference/v1/generate"):
        assert status(path) == 401, path
    assert status("/collective_rpc", "another key") == 401 and status("/resume", KEY) == 200
    monkeypatch.delenv(KEY_VARIABLE)
    with pytest.raises(EngineServerError, match="refuses /collective_rpc with status 401"):
        outside.engine()
    server = psutil.Process(outside.pid)
    lines = [" ".join(process.cmdline()) for process in [server, *server.children(True)]]
    assert lines and not any(KEY in text for text in [*lines, outside.log.read_text()])


def test_runs_with_a_server_sample_what_the_engine_in_process_does_or_an_iteration_late(
    given_server: Served, outside: Outside, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    served = (
        "rollout=servers",
        f"rollout.servers.urls=[{outside.url}]",
        f"rollout.servers.api_key_env={KEY_VARIABLE}",
    )
    ways: dict[str, tuple[str, ...]] = {
        "process": (),
        "server": served,
        "late": (*served, "rollout.staleness=1", "callbacks.evaluation.every=2"),
    }
    rollouts, metrics = {}, {}
    for name, way in ways.items():
        folder = tmp_path / name
        train_three_iterations(folder, outside.folder, way, monkeypatch)
        parts = [pd.read_parquet(path) for path in sorted(folder.glob("rollouts/*.parquet"))]
        rollouts[name] = pd.concat(parts)
        table = pd.read_csv(folder / "metrics.csv")
        metrics[name] = table.dropna(subset="reward/mean").set_index("step")
    pd.testing.assert_frame_equal(rollouts["server"], rollouts["process"])
    for name in ("loss/policy", "optimizer/grad_norm", "entropy/policy"):
        got, want = metrics["server"][name].tolist(), metrics["process"][name].tolist()
        assert got == pytest.approx(want, rel=1e-4)
    assert 0 < metrics["server"]["engine/logprob_gap_max"].max() < 1e-4
    late = rollouts["late"]
    assert late.groupby("iteration").version.unique().tolist() == [[0], [0], [1]]
    first = [rollouts[name].query("iteration == 0") for name in ("late", "process")]
    pd.testing.assert_frame_equal(*first)
    assert metrics["late"]["engine/probe_gap_max"].max() < 1e-4
    assert metrics["late"]["engine/logprob_gap_max"].iloc[1] > 1e-4
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert not [path for path in files if KEY.encode() in path.read_bytes()]


def train_three_iterations(
    folder: Path, policy: Path, overrides: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    small = (
        "rollout.prompts_per_iteration=8",
        "rollout.group_size=4",
        "callbacks.evaluation.problems=4",
        "trainer.max_epochs=3",
        "task.train_size=256",
    )
    method = (f"policy.path={policy}", "policy.optimizer.warmup_steps=0", "algo=reinforce")
    line = ["train.py", *small, *method, *overrides, f"hydra.run.dir={folder}"]
    monkeypatch.setattr(sys, "argv", line)
    entry("train", "asym_lightning.commands.train:train")
    summary = json.loads((folder / "summary.json").read_text())
    assert summary["status"] == "done" and summary["iterations"] == 3
    assert "eval/heldout/avg@8" in summary["evaluation"]["after"]


def test_killed_servers_are_named_and_their_prompts_go_to_the_others(
    own_server: Served,
    given_server: Served,
    outside: Outside,
    capsys: pytest.CaptureFixture[str],
) -> None:
    policy, engine = own_server.policy, own_server.engine
    engine.servers.append(Server(outside.url))
    # Both servers compute the same now: the other one ties its head and takes no weights for it.
    with torch.no_grad():
        policy.model.lm_head.weight.copy_(policy.model.model.embed_tokens.weight)
    engine.sync(policy.weights(), 9)
    expected = ids(own_server.samples())
    process = engine.servers[0].process
    assert process is not None
    os.kill(process.pid, signal.SIGSTOP)  # it keeps the requests that it gets now
    with ThreadPoolExecutor(1) as thread:
        sampled = thread.submit(engine.generate, PROMPTS, SAMPLING, SEEDS)
        os.killpg(process.pid, signal.SIGKILL)
        assert ids(sampled.result(60)) == expected
    said = capsys.readouterr().out
    assert said.count("ended with exit code -9; its prompts are given to the others") == 1
    assert f"process {process.pid}" in said
    engine.sync(policy.weights(), 10)
    assert gap(policy, engine) < 1e-4

    kill_owner(outside)
    no_server = r"no server is left to sample from: .*exit code -9; http://.* does not answer"
    with pytest.raises(EngineServerError, match=no_server) as error:
        own_server.samples()
    assert f"{process.log} ends with:" in str(error.value)


def kill_owner(outside: Outside) -> None:
    """Kill the process that started the server outside, and check that the server ends."""
    server = psutil.Process(outside.pid)
    family = [server, *server.children(recursive=True)]
    assert len(family) > 1, "the engine is a process of its own"
    os.kill(outside.owner.pid, signal.SIGKILL)
    outside.owner.wait()
    left = psutil.wait_procs(family, timeout=20)[1]
    assert not [p for p in left if p.is_running() and p.status() != psutil.STATUS_ZOMBIE]


def test_a_server_that_dies_at_start_shows_its_last_lines(tmp_path: Path) -> None:
    last = r"ended with exit code 2; .*0\.log ends with:\n(.*\n)*.*invalid int value: 'long'"
    with pytest.raises(EngineServerError, match=last):
        new_engine("nowhere", ServerSettings(), tmp_path, options=["--max-model-len=long"])


def test_a_server_that_others_could_reach_needs_a_key(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("VLLM_API_KEY", raising=False)
    with pytest.raises(SystemExit) as stop:
        serve(["nowhere", "--host", "0.0.0.0", "--max-model-len", "64"])
    assert stop.value.code == 2
    assert capsys.readouterr().err.startswith("error: --host 0.0.0.0 can be reached from elsewhere")
    with pytest.raises(SystemExit) as stop:
        serve(["nowhere", "--max-model-len", "64", "--weight-transfer", "ipc"])
    assert stop.value.code == 2
    assert "--weight-transfer ipc is for servers that a run starts" in capsys.readouterr().err
