"""TensorBoard in a real browser, on run folders as train.py writes them."""

import shutil
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from lightning.pytorch.loggers import TensorBoardLogger

from callbacks.board import Board
from callbacks.record import Recorder, RecordSettings
from tests.support.ranks import free_port

NAMES = (
    "reward/mean",
    "entropy/policy",
    "entropy/positive",
    "entropy/negative",
    "solved/none",
    "ledger/total_measured_positive",
)
SCRIPT = """
const texts = []
const walk = node => {
  const text = node.nodeType === Node.TEXT_NODE ? node.textContent.trim() : ""
  if (text) texts.push(text)
  const roots = node.shadowRoot ? [node.shadowRoot] : []
  for (const child of [...roots, ...node.childNodes]) walk(child)
}
walk(document.body)
return texts.join("\\n")
"""


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A TensorBoard over one run each of two methods."""
    logs = tmp_path_factory.mktemp("logs")
    for method in ("asymgrpo", "grpo"):
        folder = logs / f"{method}-seed1"
        logger = TensorBoardLogger(
            str(folder), name="tensorboard", version="", default_hp_metric=False
        )
        rollout: Any = None
        record = Recorder(RecordSettings(str(folder)), rollout)
        trainer: Any = SimpleNamespace(loggers=[logger], is_global_zero=True)
        board, settings = Board(), {"algo.name": method, "seed": 1}
        parts: Any = SimpleNamespace(record=record, hyperparameters=settings)
        board.take_parts(parts)
        board.on_train_start(trainer, None)  # type: ignore[arg-type]
        for step in range(3):
            record.history.append(dict.fromkeys(NAMES, step / 3))
            logger.log_metrics(record.history[-1], step=step)
        board.on_train_end(trainer, None)  # type: ignore[arg-type]
        logger.finalize("success")
    port = free_port()
    place = ["--logdir", str(logs), "--port", str(port), "--host", "127.0.0.1"]
    command = [sys.executable, "-m", "tensorboard.main", *place]
    server = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    url = f"http://127.0.0.1:{port}"
    try:
        _wait(lambda: urllib.request.urlopen(f"{url}/data/runs", timeout=5).read() != b"[]", 60)
        yield url
    finally:
        server.kill()
        server.wait()
        shutil.rmtree(logs)


def _wait(done: Any, seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while True:
        try:
            if done():
                return
        except OSError:
            pass
        assert time.monotonic() < deadline, "nothing came"
        time.sleep(0.2)


CATEGORIES = [
    "exploration",
    "entropy (nats per token)",
    "entropy ledger (nats per token since the start)",
    "health",
]


@pytest.mark.parametrize(
    ("tab", "expected"),
    [
        ("custom_scalars", CATEGORIES),
        ("scalars", ["asymgrpo-seed1/tensorboard", "grpo-seed1/tensorboard", "reward/mean"]),
        ("hparams", ["algo.name", "grpo", "last_10/reward/mean"]),
    ],
)
def test_tensorboard_shows_the_charts(
    address: str, browser: Any, tab: str, expected: list[str]
) -> None:
    browser.get(f"{address}/#{tab}")

    def shown() -> list[str]:
        frames = browser.find_elements("css selector", "iframe")
        text = browser.execute_script(SCRIPT)
        for frame in frames:  # some tabs are in a frame
            browser.switch_to.frame(frame)
            text += "\n" + browser.execute_script(SCRIPT)
            browser.switch_to.default_content()
        return [name for name in expected if name not in text]

    _wait(lambda: not shown(), 60)
