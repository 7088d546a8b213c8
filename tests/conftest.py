"""Settings that must stand before torch, transformers or vllm are imported, and the folder of real problems."""

import os
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")  # two-thread runs collapse on a shared machine
os.environ.setdefault("HF_HUB_OFFLINE", "1")  # no test may depend on a hub
os.environ.setdefault("VLLM_NO_USAGE_STATS", "1")

import pytest

ROOT = Path(__file__).resolve().parent.parent
LONGEST = ("train", "every_method", "sweeps", "evaluate", "servers", "conf", "sharding", "engine", "watchdog", "learner", "cli", "jail")
LONGEST_FIRST = [f"test_{name}.py" for name in LONGEST]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The longest files first: two processes take a file each at a time, and neither shall wait long for the other at the end."""
    items.sort(key=lambda item: LONGEST_FIRST.index(item.path.name) if item.path.name in LONGEST_FIRST else len(LONGEST_FIRST))


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of published problems that ASYM_LIGHTNING_DATA names: ``math_train``, ``math500``, ``aime24``, ``aime25``, ``amc23`` and
    ``olympiadbench`` as Parquet files with the columns ``problem`` and ``answer``, and ``gsm8k_test.jsonl``."""
    folder = os.environ.get("ASYM_LIGHTNING_DATA")
    if not folder:
        pytest.skip("needs real problems: ASYM_LIGHTNING_DATA names no folder")
    return Path(folder)


@pytest.fixture(scope="session")
def policy(tmp_path_factory: pytest.TempPathFactory, worker_id: str) -> str:
    """A policy after a short warm start: it solves some problems, not all. The first process of the tests that comes makes it for all."""
    from asym_lightning.embedded import EmbeddedSettings, embedded_policy

    own = tmp_path_factory.getbasetemp()
    folder = embedded_policy(EmbeddedSettings(steps=150), (own if worker_id == "master" else own.parent) / "policies")
    return f"policy.path={folder}"
