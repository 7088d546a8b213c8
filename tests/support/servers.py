"""Real vLLM server processes: one that a run starts, and one that another process starts."""

import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from asym_lightning.learner.policy import PolicyModule
from asym_lightning.rollout.base import Sample
from asym_lightning.rollout.server_settings import ServerSettings
from asym_lightning.rollout.servers import ServerEngine
from tests.support import ROOT
from tests.support.engines import PROMPTS, SAMPLING, SEEDS, policy_in
from tests.support.file_transfer import install
from tests.support.ranks import free_port

KEY, KEY_VARIABLE = "a-secret-of-this-test", "ASYM_LIGHTNING_TEST_KEY"
CONTEXT = 128
OWNER = """
import sys
from pathlib import Path
from asym_lightning.rollout.server_process import ServerProcess
model, port, key, context, log = sys.argv[1:]
options = ["--port", port, "--max-model-len", context, "--dtype=float32", "--enforce-eager"]
environment = {"VLLM_API_KEY": key, "VLLM_CPU_KVCACHE_SPACE": "1"}
print(ServerProcess([model, *options], environment, Path(log)).pid, flush=True)
sys.stdin.read()
"""


@dataclass
class Served:
    """A policy, the folder that it came from, and its engine."""

    policy: PolicyModule
    folder: Path
    engine: ServerEngine

    def samples(self) -> list[list[Sample]]:
        return self.engine.generate(PROMPTS, SAMPLING, SEEDS)

    def versions(self) -> set[int]:
        """The versions of the weights that samples come from now."""
        return {sample.version for samples in self.samples() for sample in samples}


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
        return new_engine("", self.settings(), self.log.parent, dtype=dtype)


def new_engine(
    model: str,
    settings: ServerSettings,
    folder: Path,
    *,
    options: Sequence[str] = (),
    dtype: str = "float32",
) -> ServerEngine:
    """An engine with a context of 64 tokens and at most 256 sequences.

    Args:
        model: the policy's folder; empty if the settings have URLs.
        folder: the folder of the servers' logs.
    """
    return ServerEngine(
        model,
        dtype,
        64,
        max_num_seqs=256,
        settings=settings,
        logs=folder,
        options=options,
    )


@pytest.fixture(scope="module")
def outside(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Outside]:
    folder, port = tmp_path_factory.mktemp("outside"), free_port()
    model, log = folder / "model", folder / "log"
    policy_in(model, tied=True)
    os.environ[KEY_VARIABLE] = KEY
    arguments = [str(model), str(port), KEY, str(CONTEXT), str(log)]
    owner = subprocess.Popen(
        [sys.executable, "-c", OWNER, *arguments],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert owner.stdout is not None
    pid = int(owner.stdout.readline())
    yield Outside(owner, f"http://127.0.0.1:{port}", pid, folder=model, log=log)
    owner.kill()
    owner.wait()
    del os.environ[KEY_VARIABLE]


@pytest.fixture(scope="module")
def own_server(outside: Outside, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """A server that is started here, while the one outside starts too."""
    folder = tmp_path_factory.mktemp("own")
    policy = policy_in(folder / "model", tied=False)
    settings = ServerSettings(api_key_env=KEY_VARIABLE, request_timeout_s=60)
    # ``install`` makes this transfer one by files.
    options = ["--enforce-eager", "--weight-transfer", "nccl"]
    with pytest.MonkeyPatch.context() as patch:
        install(folder)
        patch.setenv("PYTHONPATH", os.pathsep.join([str(folder), str(ROOT)]))
        engine = new_engine(str(folder / "model"), settings, folder / "servers", options=options)
    yield Served(policy, folder, engine)
    engine.close()


@pytest.fixture(scope="module")
def given_server(own_server: Served, outside: Outside) -> Iterator[Served]:
    """The server outside, by its URL."""
    engine = outside.engine()
    yield Served(policy_in(outside.folder, tied=True), outside.folder, engine)
    engine.close()
