"""Rollouts by real vLLM server processes: one that a run starts, and one that is given by URL."""

import http.client
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
import psutil
import pytest
import torch
from lightning import Trainer

from asym_lightning.commands.cli import entry
from asym_lightning.learner.policy import PolicyModule
from asym_lightning.learner.probe import prompt_logprobs
from asym_lightning.rollout.base import Sample
from asym_lightning.rollout.serve import main as serve
from asym_lightning.rollout.server_client import Client, EngineServerError, Server
from asym_lightning.rollout.server_settings import ServerSettings
from asym_lightning.rollout.servers import ServerEngine
from asym_lightning.rollout.vllm import VLLMEngine
from asym_lightning.rollout.weight_folder import buckets
from asym_lightning.rollout.weight_push import Pusher
from tests.support import ROOT
from tests.support.engines import PROMPTS, SAMPLING, SEEDS, gap, policy_in, shake
from tests.support.file_transfer import Files, install
from tests.support.ranks import free_port

KEY, KEY_VARIABLE = "a-secret-of-this-test", "ASYM_LIGHTNING_TEST_KEY"
CONTEXT = 128
OWNER = """
import sys
from pathlib import Path
from asym_lightning.rollout.server_process import ServerProcess
model, port, key, context, log = sys.argv[1:]
options = ["--port", port, "--max-model-len", context, "--dtype=float32", "--enforce-eager"]
print(ServerProcess([model, *options], {"VLLM_API_KEY": key, "VLLM_CPU_KVCACHE_SPACE": "1"}, Path(log)).pid, flush=True)
sys.stdin.read()
"""


@dataclass
class Served:
    """A policy, the folder it came from, and its engine."""

    policy: PolicyModule
    folder: Path
    engine: ServerEngine


@dataclass
class Outside:
    """A server that another process started, with an API key."""

    owner: subprocess.Popen[str]
    url: str
    pid: int
    folder: Path
    log: Path

    def settings(self, **more: Any) -> ServerSettings:
        return ServerSettings(urls=[self.url], api_key_env=KEY_VARIABLE, **more)

    def engine(self, dtype: str = "float32") -> ServerEngine:
        return ServerEngine("", dtype, 64, 256, self.settings(), self.log.parent)


@pytest.fixture(scope="module")
def outside(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Outside]:
    folder, port = tmp_path_factory.mktemp("outside"), free_port()
    policy_in(folder / "model", tied=True)
    os.environ[KEY_VARIABLE] = KEY
    command = [sys.executable, "-c", OWNER, str(folder / "model"), str(port), KEY, str(CONTEXT), str(folder / "log")]
    owner = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert owner.stdout is not None
    yield Outside(owner, f"http://127.0.0.1:{port}", int(owner.stdout.readline()), folder / "model", folder / "log")
    owner.kill()
    owner.wait()
    del os.environ[KEY_VARIABLE]


@pytest.fixture(scope="module")
def own(outside: Outside, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """A server that is started here, while the one outside starts too."""
    folder = tmp_path_factory.mktemp("own")
    policy = policy_in(folder / "model", tied=False)
    settings = ServerSettings(api_key_env=KEY_VARIABLE, request_timeout_s=60)
    options = ["--enforce-eager", "--weight-transfer", "nccl"]  # which is by files there
    with pytest.MonkeyPatch.context() as patch:
        install(folder)
        patch.setenv("PYTHONPATH", os.pathsep.join([str(folder), str(ROOT)]))
        engine = ServerEngine(str(folder / "model"), "float32", 64, 256, settings, folder / "servers", options)
    yield Served(policy, folder, engine)
    engine.close()


@pytest.fixture(scope="module")
def given(own: Served, outside: Outside) -> Iterator[Served]:
    """The server outside, by its URL."""
    engine = outside.engine()
    yield Served(policy_in(outside.folder, tied=True), outside.folder, engine)
    engine.close()


def ids(drawn: list[list[Sample]]) -> list[list[list[int]]]:
    return [[s.token_ids for s in samples] for samples in drawn]


@pytest.mark.parametrize("which", ["own", "given"])  # untied and tied output head
def test_changed_weights_reach_the_servers_and_stale_ones_show(which: str, request: pytest.FixtureRequest) -> None:
    served: Served = request.getfixturevalue(which)
    policy, engine = served.policy, served.engine
    shake(policy)
    with pytest.raises(EngineServerError, match="no weights were synced"):
        engine.generate(PROMPTS, SAMPLING, SEEDS)
    engine.sync(policy.weights(), 3)
    assert gap(policy, engine) < 1e-4
    shake(policy)
    assert gap(policy, engine) > 1e-2, "stale weights must show in the log-probs"
    engine.publish(policy.weights(), 4)
    assert gap(policy, engine) > 1e-2, "what is published is not loaded yet"
    assert {s.version for samples in engine.generate(PROMPTS, SAMPLING, SEEDS) for s in samples} == {3}
    engine.load(4)
    assert gap(policy, engine) < 1e-4
    assert {s.version for samples in engine.generate(PROMPTS, SAMPLING, SEEDS) for s in samples} == {4} == {engine.version}


def test_weights_can_be_sent_bucket_by_bucket(own: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    policy, engine, files = own.policy, own.engine, Files(own.folder)
    monkeypatch.setattr(engine, "_pusher", Pusher(files, torch.float32))
    monkeypatch.setattr("asym_lightning.rollout.weight_push.buckets", partial(buckets, bucket_bytes=2**16))
    for version in (7, 8):
        shake(policy)
        if version == 8:
            assert gap(policy, engine) > 1e-2
        engine.sync(policy.weights(), version)
        assert gap(policy, engine) < 1e-4
        assert {s.version for samples in engine.generate(PROMPTS, SAMPLING, SEEDS) for s in samples} == {version}
    assert files.opened == 1 and files.sent >= 2 * 4
    with pytest.raises(EngineServerError, match="hold the weights of iteration 8, not of 7"):
        engine.load(7)


def test_what_a_server_cannot_take_is_said(own: Served, outside: Outside, monkeypatch: pytest.MonkeyPatch) -> None:
    files = Files(own.folder)

    async def wrong(client: Client, _: Any) -> None:
        await client.post("/update_weights", {"update_info": {"names": ["a"], "dtype_names": [], "shapes": [], "path": "nowhere"}})

    monkeypatch.setattr(files, "send", wrong)
    monkeypatch.setattr(own.engine, "_pusher", Pusher(files, torch.float32))
    gathered: list[str] = []
    weights = ((name, gathered.append(name) or tensor) for name, tensor in own.policy.weights())  # type: ignore[func-returns-value]
    with pytest.raises(EngineServerError, match="did not take new weights: /update_weights: status 500"):
        own.engine.publish(weights, 1)
    assert len(gathered) == len(dict(own.policy.weights())), "ranks gather shards in step, also where one fails"
    monkeypatch.setattr("asym_lightning.rollout.servers.TRANSPORTS", {"nccl": lambda: files})
    with pytest.raises(EngineServerError, match="takes weights through a folder only: start it with --weight-transfer nccl"):
        ServerEngine("", "float32", 64, 256, outside.settings(transfer="nccl"), own.folder)


def test_a_server_samples_what_the_engine_in_process_does(given: Served) -> None:
    policy, engine = given.policy, given.engine
    inside = VLLMEngine(str(given.folder), "float32", 64, 256)
    inside.sync(policy.weights(), 5)
    engine.sync(policy.weights(), 5)
    prompts = [*PROMPTS, *torch.randint(256, (40, 40), generator=torch.Generator().manual_seed(0)).tolist()]
    seeds = [*SEEDS, *range(40)]
    one, other = inside.generate(prompts, SAMPLING, seeds), engine.generate(prompts, SAMPLING, seeds)
    inside.close()
    assert [[(s.token_ids, s.truncated, s.version) for s in row] for row in one] == [
        [(s.token_ids, s.truncated, s.version) for s in row] for row in other
    ]
    flat = [[lp for row in rows for s in row for lp in s.logprobs] for rows in (one, other)]
    torch.testing.assert_close(torch.tensor(flat[0]), torch.tensor(flat[1]), atol=1e-5, rtol=0)


def test_logprobs_of_prompts_are_the_policys(given: Served) -> None:
    given.engine.sync(given.policy.weights(), 6)
    prompts = [PROMPTS[1], [7], PROMPTS[0]]
    given.policy.trainer = Trainer(accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False)
    for found, expected in zip(given.engine.prompt_logprobs(prompts), prompt_logprobs(given.policy, prompts), strict=True):
        assert found == pytest.approx(expected, abs=1e-5)


def test_weights_of_another_run_stop_this_one(given: Served, outside: Outside) -> None:
    given.engine.sync(given.policy.weights(), 7)
    other = outside.engine()
    other.sync(given.policy.weights(), 7)
    with pytest.raises(EngineServerError, match="or another run uses it too"):
        given.engine.generate(PROMPTS, SAMPLING, SEEDS)
    other.publish(given.policy.weights(), 8)
    other.close()
    with pytest.raises(EngineServerError, match=r"did not take the weights in .*: FileNotFoundError: there is no such folder"):
        other.load(8)
    with pytest.raises(EngineServerError, match="does not fit this run: dtype=float32, the trainer asks for bfloat16"):
        outside.engine("bfloat16")


def test_an_engine_that_is_closed_does_not_wait_for_its_servers(outside: Outside) -> None:
    engine = outside.engine()
    engine.sync(policy_in(outside.folder, tied=True).weights(), 1)
    os.kill(outside.pid, signal.SIGSTOP)  # what it is given now is not answered
    try:
        with ThreadPoolExecutor(1) as thread:
            sampled = thread.submit(engine.generate, PROMPTS, SAMPLING, SEEDS)
            engine.close()
            with pytest.raises(EngineServerError, match="the run has ended"):
                sampled.result(60)
    finally:
        os.kill(outside.pid, signal.SIGCONT)


def test_a_completion_that_another_run_ended_is_no_completion(given: Served) -> None:
    given.engine.sync(given.policy.weights(), 6)
    choice = {"weight_versions": [{"version": given.engine._label}], "finish_reason": "abort", "token_ids": [1]}
    with pytest.raises(EngineServerError, match=r"ended a completion early \(abort\): another run uses it too"):
        given.engine._sample(choice)


def test_every_route_needs_the_key_and_nothing_shows_it(given: Served, outside: Outside, monkeypatch: pytest.MonkeyPatch) -> None:
    def status(path: str, key: str | None = None) -> int:
        connection = http.client.HTTPConnection(outside.url.removeprefix("http://"), timeout=30)
        headers = {"Content-Type": "application/json"} | ({"Authorization": f"Bearer {key}"} if key else {})
        connection.request("GET" if path == "/health" else "POST", path, "{}", headers)
        return connection.getresponse().status

    assert status("/health") == 200
    assert [status(path) for path in ("/collective_rpc", "/pause", "/v1/completions", "/inference/v1/generate")] == [401] * 4
    assert status("/collective_rpc", "another key") == 401 and status("/resume", KEY) == 200
    monkeypatch.delenv(KEY_VARIABLE)
    with pytest.raises(EngineServerError, match="refuses /collective_rpc with status 401"):
        outside.engine()
    shown = [" ".join(process.cmdline()) for process in [psutil.Process(outside.pid), *psutil.Process(outside.pid).children(True)]]
    assert shown and not any(KEY in text for text in [*shown, outside.log.read_text()])


def test_runs_with_a_server_sample_what_the_engine_in_process_does_or_an_iteration_late(
    given: Served, outside: Outside, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    small = ("rollout.prompts_per_iteration=8", "rollout.group_size=4", "callbacks.evaluation.problems=4", "trainer.max_epochs=3")
    policy = (f"policy.path={outside.folder}", "policy.optimizer.warmup_steps=0", "algo=reinforce")
    served = ("rollout=servers", f"rollout.servers.urls=[{outside.url}]", f"rollout.servers.api_key_env={KEY_VARIABLE}")
    ways = {"process": (), "server": served, "late": (*served, "rollout.staleness=1", "callbacks.evaluation.every=2")}
    rollouts, metrics = {}, {}
    for name, way in ways.items():
        folder = tmp_path / name
        monkeypatch.setattr(sys, "argv", ["train.py", *small, *policy, *way, f"hydra.run.dir={folder}"])
        entry("train", "asym_lightning.commands.train:train")
        summary = json.loads((folder / "summary.json").read_text())
        assert summary["status"] == "done" and summary["iterations"] == 3
        assert "eval/heldout/avg@8" in summary["evaluation"]["after"]
        rollouts[name] = pd.concat(pd.read_parquet(path) for path in sorted(folder.glob("rollouts/*.parquet")))
        metrics[name] = pd.read_csv(folder / "metrics.csv").dropna(subset="reward/mean").set_index("step")
    pd.testing.assert_frame_equal(rollouts["server"], rollouts["process"])
    for name in ("loss/policy", "optimizer/grad_norm", "entropy/policy"):
        assert metrics["server"][name].tolist() == pytest.approx(metrics["process"][name].tolist(), rel=1e-4)
    assert 0 < metrics["server"]["engine/logprob_gap_max"].max() < 1e-4
    late = rollouts["late"]
    assert late.groupby("iteration").version.unique().tolist() == [[0], [0], [1]]
    first = [rollouts[name].query("iteration == 0") for name in ("late", "process")]
    pd.testing.assert_frame_equal(*first)
    assert metrics["late"]["engine/probe_gap_max"].max() < 1e-4 < metrics["late"]["engine/logprob_gap_max"].iloc[1]
    assert not [path for path in tmp_path.rglob("*") if path.is_file() and KEY.encode() in path.read_bytes()]


def test_killed_servers_are_named_and_their_prompts_go_to_the_others(
    own: Served, given: Served, outside: Outside, capsys: pytest.CaptureFixture[str]
) -> None:
    policy, engine = own.policy, own.engine
    engine.servers.append(Server(outside.url))
    with torch.no_grad():  # now both servers compute the same: the other one ties its head, and takes no weights for it
        policy.model.lm_head.weight.copy_(policy.model.model.embed_tokens.weight)
    engine.sync(policy.weights(), 9)
    expected = ids(engine.generate(PROMPTS, SAMPLING, SEEDS))
    process = engine.servers[0].process
    assert process is not None
    os.kill(process.pid, signal.SIGSTOP)  # what it is given now stays with it
    with ThreadPoolExecutor(1) as thread:
        sampled = thread.submit(engine.generate, PROMPTS, SAMPLING, SEEDS)
        os.killpg(process.pid, signal.SIGKILL)
        assert ids(sampled.result(60)) == expected
    said = capsys.readouterr().out
    assert said.count("ended with exit code -9; its prompts are given to the others") == 1 and f"process {process.pid}" in said
    engine.sync(policy.weights(), 10)
    assert gap(policy, engine) < 1e-4

    server = psutil.Process(outside.pid)
    family = [server, *server.children(recursive=True)]
    assert len(family) > 1, "the engine is a process of its own"
    os.kill(outside.owner.pid, signal.SIGKILL)  # the run that started it
    outside.owner.wait()
    left = psutil.wait_procs(family, timeout=20)[1]
    assert not [one for one in left if one.is_running() and one.status() != psutil.STATUS_ZOMBIE]
    with pytest.raises(EngineServerError, match=r"no server is left to sample from: .*exit code -9; http://.* does not answer") as error:
        engine.generate(PROMPTS, SAMPLING, SEEDS)
    assert f"{process.log} ends with:" in str(error.value)


def test_a_server_that_dies_at_start_shows_its_last_lines(tmp_path: Path) -> None:
    with pytest.raises(EngineServerError, match=r"ended with exit code 2; .*0\.log ends with:\n(.*\n)*.*invalid int value: 'long'"):
        ServerEngine("nowhere", "float32", 64, 256, ServerSettings(), tmp_path, ["--max-model-len=long"])


def test_a_server_that_others_could_reach_needs_a_key(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.delenv("VLLM_API_KEY", raising=False)
    with pytest.raises(SystemExit) as stop:
        serve(["nowhere", "--host", "0.0.0.0", "--max-model-len", "64"])
    assert stop.value.code == 2
    assert capsys.readouterr().err.startswith("error: --host 0.0.0.0 can be reached from elsewhere")
    with pytest.raises(SystemExit) as stop:
        serve(["nowhere", "--max-model-len", "64", "--weight-transfer", "ipc"])
    assert stop.value.code == 2 and "--weight-transfer ipc is for servers that a run starts" in capsys.readouterr().err
