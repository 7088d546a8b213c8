"""Which problems an iteration is given, on two ranks and in runs."""

from pathlib import Path

import pandas as pd
import pytest

from asym_lightning.tasks.order import Difficulty
from tests.support.difficulty import data, observe, served
from tests.support.ranks import as_rank, pair
from tests.support.runs import random_policy, run


def share(rank: int, world: int) -> tuple[list[list[int]], dict[str, object]]:
    """Ten iterations of which this process observes its own groups alone; what all of them are given by its own account."""
    module = data(Difficulty(0.2, 0.8, groups=1, retry_share=0.2))
    found = []
    for iteration in range(10):
        found.append([problem for other in range(world) for problem in served(module, iteration, other, world)])
        observe(module, {problem: problem // 2 for problem in served(module, iteration, rank, world)})
    return found, module.state_dict()


def test_two_ranks_agree_and_do_what_one_does() -> None:
    one, two = pair()(as_rank, share)
    assert one == two
    alone, state = share(0, 1)
    assert [sorted(iteration) for iteration in one[0]] == [sorted(iteration) for iteration in alone] and one[1] == state
    assert alone != [served(data(), iteration) for iteration in range(10)], "the filter had something to do"


def test_a_run_leaves_problems_out_and_goes_on_after_a_resume(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "task").mkdir()
    (tmp_path / "task" / "coin.yaml").write_text("_target_: tests.support.coin.Parity\n")
    policy = random_policy(tmp_path / "policy")
    common = (f"policy.path={policy}", "task=coin", "data.difficulty.max_accuracy=0.9", "data.difficulty.min_accuracy=0.1")
    common += ("data.difficulty.groups=1", "policy.optimizer.learning_rate=1e-5", "callbacks.evaluation.problems=0")
    whole = run(monkeypatch, tmp_path, *common, "trainer.max_epochs=14", into=tmp_path / "whole")
    half = run(monkeypatch, tmp_path, *common, "trainer.max_epochs=10", into=tmp_path / "half")
    resume = f"ckpt_path={half / 'checkpoints' / 'last.ckpt'}"
    rest = run(monkeypatch, tmp_path, *common, "trainer.max_epochs=14", resume, into=tmp_path / "rest")
    tables = [pd.concat(pd.read_parquet(path) for path in sorted(folder.glob("rollouts/*.parquet"))) for folder in (whole, half, rest)]
    pd.testing.assert_frame_equal(tables[0], pd.concat(tables[1:]))
    accuracy = tables[0].groupby(["problem", "iteration"]).reward.mean().reset_index()
    out = {}
    for _, row in accuracy.sort_values("iteration").iterrows():
        assert row.problem not in out, "left out for good"
        if row.reward in (0, 1):
            out[row.problem] = row.iteration
    metrics = pd.read_csv(whole / "metrics.csv")
    assert len(out) > 4 and len(accuracy) == 14 * 8, "something was left out, and no iteration is smaller for it"
    assert (metrics["data/too_easy"] + metrics["data/too_hard"]).iloc[-1] == pytest.approx(len(out) / 48)
