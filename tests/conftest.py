"""Settings that must stand before torch, transformers or vllm are imported; markers, order and shared fixtures."""

import importlib.util
import json
import os
import sys
from collections.abc import Generator, Iterator
from pathlib import Path
from types import ModuleType

os.environ.setdefault("OMP_NUM_THREADS", "1")  # two-thread runs collapse on a shared machine
os.environ.setdefault("HF_HUB_OFFLINE", "1")  # no test may depend on a hub
os.environ.setdefault("VLLM_NO_USAGE_STATS", "1")
os.environ.setdefault("PYTORCH_NVML_BASED_CUDA_CHECK", "1")  # asking for a GPU does not keep a process from being forked

import pytest

from asym_lightning.runtime import setup

setup()

TESTS = Path(__file__).resolve().parent
SLOW_UNIT_S = 1.0
INSTALLABLE = ("could not import", "needs the package", "needs make", "needs a browser", "needs selenium")  # reasons of skips
LONGEST_FIRST = [
    *("system/test_train.py", "system/test_every_method.py", "integration/test_sharding.py", "system/test_servers.py"),
    *("system/test_sweeps.py", "config/test_conf.py", "integration/test_engine.py", "integration/test_watchdog.py"),
]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark each test with the name of its folder, and put the longest files first: two processes take a file each at a
    time, and neither shall wait long for the other at the end."""
    for item in items:
        item.add_marker(item.path.relative_to(TESTS).parts[0])

    def rank(item: pytest.Item) -> int:
        file = str(item.path.relative_to(TESTS))
        return LONGEST_FIRST.index(file) if file in LONGEST_FIRST else len(LONGEST_FIRST)

    items.sort(key=rank)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """In CI a test fails that is skipped for want of a tool which CI could have installed."""
    report = yield
    if report.skipped and os.environ.get("CI") and any(tool in str(report.longrepr) for tool in INSTALLABLE):
        report.outcome, report.longrepr = "failed", f"skipped in CI, which can install what is missing: {report.longrepr}"
    return report


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """List the unit tests that took longer than a second: they are reported, not failed."""
    calls = [report for report in terminalreporter.getreports("passed") if report.when == "call"]
    slow = [report for report in calls if "unit" in report.keywords and report.duration > SLOW_UNIT_S]
    if slow:
        terminalreporter.section(f"unit tests over {SLOW_UNIT_S:g} s: make them quicker or move them to tests/integration")
        for report in sorted(slow, key=lambda report: -report.duration):
            terminalreporter.write_line(f"{report.duration:6.2f}s {report.nodeid}")


@pytest.fixture(autouse=True)
def nothing_left() -> Iterator[None]:
    """A command that a failed test has started does not outlive it."""
    yield
    if preloaded := sys.modules.get("tests.support.preloaded"):
        preloaded.kill_left()


@pytest.fixture(autouse=True)
def import_path(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a test adds to the import path, as ``--config-dir`` does, is gone after it."""
    monkeypatch.setattr(sys, "path", [*sys.path])


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of published problems that ASYM_LIGHTNING_DATA names: ``math_train``, ``math500``, ``aime24``, ``aime25``,
    ``amc23`` and ``olympiadbench`` as Parquet files with the columns ``problem`` and ``answer``, and ``gsm8k_test.jsonl``."""
    folder = os.environ.get("ASYM_LIGHTNING_DATA")
    if not folder:
        pytest.skip("needs real problems: ASYM_LIGHTNING_DATA names no folder")
    return Path(folder)


@pytest.fixture
def install() -> ModuleType:
    """``scripts/install.py`` as a module, anew for each test."""
    spec = importlib.util.spec_from_file_location("install_script", TESTS.parent / "scripts" / "install.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def policy(tmp_path_factory: pytest.TempPathFactory, worker_id: str) -> str:
    """A policy after a short warm start: it solves some problems, not all. The first test process to ask makes it for all."""
    from asym_lightning.learner.embedded import EmbeddedSettings, embedded_policy

    own = tmp_path_factory.getbasetemp()
    folder = embedded_policy(EmbeddedSettings(steps=150), (own if worker_id == "master" else own.parent) / "policies")
    return f"policy.path={folder}"


@pytest.fixture(scope="session")
def benchmark_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random policy, a benchmark of a user's own in a config folder, and a file for one of ours with a prompt that is too long."""
    from tests.support.runs import random_policy

    folder = tmp_path_factory.mktemp("evaluate")
    random_policy(folder / "policy")
    (folder / "conf" / "benchmarks").mkdir(parents=True)
    (folder / "conf" / "benchmarks" / "parity.yaml").write_text("parity:\n  _target_: tests.support.coin.Interrupting\n")
    rows = [{"question": f"{i}+1?", "answer": str(i + 1)} for i in range(6)] + [{"question": "1" * 20000, "answer": "1"}]
    (folder / "amc.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder
