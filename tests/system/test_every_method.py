"""Every method of `conf/algo` trains, with the real vLLM on a small policy.

Methods that look beyond a rank do the same on two processes.
"""

import re
import textwrap
from pathlib import Path

import pandas as pd
import pytest

from tests.support import ROOT
from tests.support.commands import LOCKSTEP, SAME, metrics, rollouts, summary, train

SETTINGS = (
    "trainer.max_epochs=2",
    "rollout.group_size=8",
    "policy.prompts_per_mini_batch=4",
    "callbacks.evaluation.before=false",
)
METHODS = sorted(path.stem for path in (ROOT / "conf" / "algo").glob("*.yaml"))
BEYOND_A_RANK = [
    "asymgrpo_adaptive",
    "aepo",
    "clip_cov",
    "dapo",
    "grpo_kl",
    "reinforce_pp",
    "siren",
    "top_entropy",
]


def runs_of(folder: Path, names: list[str], *overrides: str, ranks: int = 1) -> dict[str, Path]:
    """Train a run with each of the methods, and return their folders by method."""
    methods = f"algo={','.join(names)}"
    train(folder, "-m", methods, *SETTINGS, *overrides, program=LOCKSTEP, ranks=ranks)
    folders = [path.parent for path in folder.glob("*/summary.json")]
    by_method = {summary(folder)["algorithm"]: folder for folder in folders}
    assert sorted(by_method) == sorted(names)
    return by_method


@pytest.fixture(scope="module")
def runs(policy: str, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A run with every method, one process each."""
    ledger = ("callbacks.ledger.every=1", "callbacks.ledger.share=1")
    return runs_of(tmp_path_factory.mktemp("runs"), METHODS, policy, *ledger)


def test_every_method_trains_two_iterations(runs: dict[str, Path]) -> None:
    for name, folder in runs.items():
        got = summary(folder)
        assert got["status"] == "done", name
        assert got["iterations"] == 2, name
        assert got["logprob_gap_max"] < 1e-4, name
        assert got["reward"]["last"] > 0, "the test needs a policy that solves something"
        table = metrics(folder)
        assert (table["optimizer/grad_norm"] > 0).all(), name
        assert (table["loss/policy"].abs() > 0).any(), name
        written = {"eval/heldout/pass@1", "logprob_gain/positive", "time/sync"}
        assert set(pd.read_csv(folder / "metrics.csv")) >= written
        assert list((folder / "tensorboard").glob("events*"))
        assert (folder / "checkpoints" / "last.ckpt").is_file()
    first = {
        name: rollouts(folder).query("iteration == 0").drop(columns="iteration")
        for name, folder in runs.items()
    }
    # Dynamic sampling replaces groups without a signal and keeps the others.
    mixed = first["grpo"].groupby("problem").filter(lambda group: group.reward.nunique() > 1)
    assert len(first["dapo"].merge(mixed)) >= len(mixed) > 0
    # Runs that differ in algo= start from the same rollouts.
    for name in first.keys() - {"dapo"}:
        pd.testing.assert_frame_equal(first[name], first["grpo"], obj=name)


def test_methods_that_look_beyond_a_rank_do_the_same_on_two_processes(
    policy: str, runs: dict[str, Path], tmp_path: Path
) -> None:
    for name, folder in runs_of(tmp_path, BEYOND_A_RANK, policy, ranks=2).items():
        one, two = metrics(runs[name]), metrics(folder)
        if name == "dapo":  # each rank keeps its own groups
            assert two["dynamic/batches"].max() > 1 and summary(folder)["status"] == "done"
            continue
        columns = [*SAME, *(c for c in one if c.startswith(("steer/", "kl/", "resample/")))]
        pd.testing.assert_frame_equal(one[columns], two[columns], rtol=1e-3, atol=1e-6, obj=name)


def readme_example(folder: Path) -> None:
    """Write the function and the YAML file of README's "Add a method" to ``folder``."""
    section = (ROOT / "README.md").read_text().split("## Add a method")[1]
    blocks = re.findall(r"```(?:python|yaml)\n(.*?)```", section, re.DOTALL)
    code, config = blocks[:2]
    (folder / "algo").mkdir()
    (folder / "my_methods.py").write_text(textwrap.dedent(code))
    (folder / "algo" / "leave_one_out.yaml").write_text(textwrap.dedent(config))


def test_the_method_of_the_readme_runs_from_a_folder_of_its_own(
    policy: str, runs: dict[str, Path], tmp_path: Path
) -> None:
    mine, own = tmp_path / "mine", tmp_path / "own"
    mine.mkdir()
    readme_example(mine)
    train(own, f"--config-dir={mine}", "algo=leave_one_out", "trainer.devices=2", policy, *SETTINGS)
    assert summary(own)["algorithm"] == "leave_one_out"
    assert summary(own)["config"]["trainer"]["devices"] == 2
    want = metrics(runs["rloo"])[SAME]
    pd.testing.assert_frame_equal(metrics(own)[SAME], want, rtol=1e-3, atol=1e-6)


def test_dynamic_sampling_learns_from_groups_with_a_signal(runs: dict[str, Path]) -> None:
    table = metrics(runs["dapo"])
    groups = rollouts(runs["dapo"]).groupby(["iteration", "problem"]).reward
    assert len(groups) == 2 * 8
    assert (groups.nunique() > 1).mean() == pytest.approx(1 - table["dynamic/filled"].mean())
    assert table["dynamic/batches"].max() > 1 and (table["dynamic/wasted_tokens"] > 0).any()
