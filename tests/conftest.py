"""Environment variables of all tests, their markers and order, and shared fixtures."""

import json
import os
import sys
from collections.abc import Generator, Iterator
from pathlib import Path
from types import ModuleType

# Before torch, transformers or vllm is imported. Two-thread runs collapse on a shared machine.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("HF_HUB_OFFLINE", "1")  # no test may depend on a hub
os.environ.setdefault("VLLM_NO_USAGE_STATS", "1")
# A process that looks for a GPU with NVML, not with CUDA, can still be forked.
os.environ.setdefault("PYTORCH_NVML_BASED_CUDA_CHECK", "1")

import pytest

from asym_lightning.runtime import setup
from asym_lightning.runtime.characters import clean_text
from asym_lightning.runtime.log import show_messages

setup()

TESTS = Path(__file__).resolve().parent
SLOW_UNIT_S = 1.0
# In the reason of a skip: something that CI could have installed.
INSTALLABLE = (
    "could not import",
    "needs the package",
    "needs make",
    "needs a browser",
    "needs selenium",
)
LONGEST_FIRST = [
    "system/test_train_ranks.py",
    "system/test_every_method.py",
    "integration/test_sharding.py",
    "system/test_train.py",
    "system/test_train_stops.py",
    "system/test_servers.py",
    "system/test_sweeps.py",
    "config/test_conf.py",
    "integration/test_engine.py",
    "integration/test_watchdog.py",
]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark each test with the name of its folder, and put the longest files first.

    Two processes take one file at a time each; neither shall wait long for the other at the end.
    """
    for item in items:
        item.add_marker(item.path.relative_to(TESTS).parts[0])

    def rank(item: pytest.Item) -> int:
        file = str(item.path.relative_to(TESTS))
        return LONGEST_FIRST.index(file) if file in LONGEST_FIRST else len(LONGEST_FIRST)

    items.sort(key=rank)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """In CI, turn a skip into a failure if CI could have installed the missing tool.

    What a test has logged is cleaned: a worker cannot send half a surrogate pair.
    """
    report = yield
    report.sections = [(name, clean_text(text)) for name, text in report.sections]
    installable = any(tool in str(report.longrepr) for tool in INSTALLABLE)
    if report.skipped and os.environ.get("CI") and installable:
        report.outcome = "failed"
        report.longrepr = f"skipped in CI, which can install what is missing: {report.longrepr}"
    return report


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """List the unit tests that took longer than a second; they do not fail."""
    passed = [r for r in terminalreporter.getreports("passed") if r.when == "call"]
    slow = [r for r in passed if "unit" in r.keywords and r.duration > SLOW_UNIT_S]
    if slow:
        advice = "make them quicker or move them to tests/integration"
        terminalreporter.section(f"unit tests over {SLOW_UNIT_S:g} s: {advice}")
        for report in sorted(slow, key=lambda report: -report.duration):
            terminalreporter.write_line(f"{report.duration:6.2f}s {report.nodeid}")


@pytest.fixture(autouse=True)
def nothing_left() -> Iterator[None]:
    """Kill the commands that a failed test has left running."""
    yield
    if preloaded := sys.modules.get("tests.support.preloaded"):
        preloaded.kill_left()


@pytest.fixture(autouse=True)
def import_path(monkeypatch: pytest.MonkeyPatch) -> None:
    """Undo additions to the import path after each test; ``--config-dir`` makes one."""
    monkeypatch.setattr(sys, "path", [*sys.path])


@pytest.fixture(autouse=True)
def messages() -> None:
    """Show messages again if an earlier test has run Hydra, which disables loggers."""
    show_messages()


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of published problems that the variable ASYM_LIGHTNING_DATA names.

    It holds ``math_train``, ``math500``, ``aime24``, ``aime25``, ``amc23`` and ``olympiadbench`` as
    Parquet files with the columns ``problem`` and ``answer``, and ``gsm8k_test.jsonl``.
    """
    folder = os.environ.get("ASYM_LIGHTNING_DATA")
    if not folder:
        pytest.skip("needs real problems: ASYM_LIGHTNING_DATA names no folder")
    return Path(folder)


@pytest.fixture
def install(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """``scripts/install.py`` as a module, loaded anew for each test."""
    from tests.support.scripts import script

    # It imports install_checks from its own folder.
    monkeypatch.syspath_prepend(TESTS.parent / "scripts")
    return script("install")


@pytest.fixture(scope="session")
def policy(tmp_path_factory: pytest.TempPathFactory, worker_id: str) -> str:
    """An override: a policy that solves some problems, not all, after a short warm start.

    The first test process to ask for it trains it; the others use the same folder.
    """
    from asym_lightning.learner.embedded import EmbeddedSettings, embedded_policy

    base = tmp_path_factory.getbasetemp()
    shared = base if worker_id == "master" else base.parent
    folder = embedded_policy(EmbeddedSettings(steps=150), shared / "policies")
    return f"policy.path={folder}"


@pytest.fixture(scope="session")
def benchmark_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a random policy, the config of a user's benchmark, and problems for ``amc23``.

    One of the problems is longer than the context.
    """
    from tests.support.runs import random_policy

    folder = tmp_path_factory.mktemp("evaluate")
    random_policy(folder / "policy")
    (folder / "conf" / "benchmarks").mkdir(parents=True)
    parity = "parity:\n  _target_: tests.support.coin.Interrupting\n"
    (folder / "conf" / "benchmarks" / "parity.yaml").write_text(parity)
    rows = [{"question": f"{i}+1?", "answer": str(i + 1)} for i in range(6)]
    rows.append({"question": "1" * 20000, "answer": "1"})
    (folder / "amc.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder
