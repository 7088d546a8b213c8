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
    """What two short runs write into metrics.csv: the default method, and one with nearly everything turned on."""
    found: set[str] = set()
    for parts in (("algo=asymgrpo",), ("algo=asymgrpo_adaptive", "policy.prompts_per_mini_batch=4", *MANY_PARTS)):
        folder = tmp_path_factory.mktemp("run")
        (folder / "task").mkdir()
        (folder / "task" / "parity.yaml").write_text("_target_: tests.support.coin.Parity")
        policy = random_policy(folder / "policy")
        with pytest.MonkeyPatch.context() as monkeypatch:
            done = run(monkeypatch, folder, *parts, f"policy.path={policy}", "task=parity", "trainer.max_epochs=2")
        found |= set(pd.read_csv(done / "metrics.csv"))
    return found - {"step"}


def test_everything_a_run_writes_is_on_the_page(columns: set[str]) -> None:
    missing = sorted(name for name in columns if not any(fnmatchcase(name, known) for known in documented()))
    assert len(columns) > 60 and not missing, f"docs/metrics.md lacks {missing}"


def test_every_name_on_the_page_is_written(columns: set[str]) -> None:
    gone = [name for name in documented() if name not in written() and not any(fnmatchcase(column, name) for column in columns)]
    assert not gone, f"docs/metrics.md names {gone}, which nothing writes"
