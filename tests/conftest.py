"""Settings that must stand before torch, transformers or vllm are imported, and the folder of shared data."""

import os
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")  # two-thread runs collapse on a shared machine
os.environ.setdefault("HF_HUB_OFFLINE", "1")  # no test may depend on a hub
os.environ.setdefault("VLLM_NO_USAGE_STATS", "1")

import pytest

ROOT = Path(__file__).resolve().parent.parent
WHOLE_RUNS = ["test_train.py", "test_sweeps.py", "test_servers.py", "test_evaluate.py", "test_engine.py"]  # minutes each


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The longest files first: two processes take a file each at a time, and neither shall wait long for the other at the end."""
    items.sort(key=lambda item: WHOLE_RUNS.index(item.path.name) if item.path.name in WHOLE_RUNS else len(WHOLE_RUNS))


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real problems that lies beside the checkout (not part of the package)."""
    folder = ROOT.parent / "shared" / "data"
    if not folder.is_dir():
        pytest.skip("needs real problems: no folder ../shared/data beside the repository")
    return folder
