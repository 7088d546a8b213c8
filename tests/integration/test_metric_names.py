"""docs/metrics.md names what runs write."""

from fnmatch import fnmatchcase

import pandas as pd
import pytest

from tests.support.metric_names import documented, written
from tests.support.runs import random_policy, run

MANY_PARTS = (
    "modulation@algo.modulation=[adaptive_entropy,siren,reference_kl]",
    "rules@algo.rules=aepo",
    "algo.rules.dynamic_sampling=2",
    "data.difficulty.max_accuracy=0.9",
)


@pytest.fixture(scope="module")
def columns(tmp_path_factory: pytest.TempPathFactory) -> set[str]:
    """The columns of metrics.csv of two short runs: the default method, and one with many parts."""
    found: set[str] = set()
    adaptive = ("algo=asymgrpo_adaptive", "policy.prompts_per_mini_batch=4", *MANY_PARTS)
    for parts in (("algo=asymgrpo",), adaptive):
        folder = tmp_path_factory.mktemp("run")
        (folder / "task").mkdir()
        (folder / "task" / "parity.yaml").write_text("_target_: tests.support.coin.Parity")
        policy = f"policy.path={random_policy(folder / 'policy')}"
        short = (policy, "task=parity", "trainer.max_epochs=2")
        with pytest.MonkeyPatch.context() as monkeypatch:
            done = run(monkeypatch, folder, *parts, *short)
        found |= set(pd.read_csv(done / "metrics.csv"))
    return found - {"step"}


def test_everything_a_run_writes_is_on_the_page(columns: set[str]) -> None:
    def known(name: str) -> bool:
        return any(fnmatchcase(name, pattern) for pattern in documented())

    missing = sorted(name for name in columns if not known(name))
    assert len(columns) > 60 and not missing, f"docs/metrics.md lacks {missing}"


def test_every_name_on_the_page_is_written(columns: set[str]) -> None:
    unwritten = [name for name in documented() if name not in written()]
    gone = [name for name in unwritten if not any(fnmatchcase(column, name) for column in columns)]
    assert not gone, f"docs/metrics.md names {gone}, which nothing writes"
