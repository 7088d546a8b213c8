"""The choice of an iteration's problems, on two ranks and in runs."""

from pathlib import Path

import pandas as pd
import pytest

from asym_lightning.tasks.order import Difficulty
from tests.support.difficulty import data, observe, served
from tests.support.ranks import as_rank, pair
from tests.support.runs import random_policy, run


def share(rank: int, world: int) -> tuple[list[list[int]], dict[str, object]]:
    """Serve ten iterations; this rank observes only its own groups.

    Returns:
        The problems of all ranks in every iteration, as this rank computes them, and the data
        module's state.
    """
    module = data(Difficulty(0.2, 0.8, groups=1, retry_share=0.2))
    iterations = []
    for iteration in range(10):
        problems: list[int] = []
        for other in range(world):
            problems += served(module, iteration, other, world)
        iterations.append(problems)
        correct = {problem: problem // 2 for problem in served(module, iteration, rank, world)}
        observe(module, correct)
    return iterations, module.state_dict()


def test_two_ranks_agree_and_do_what_one_does() -> None:
    one, two = pair()(as_rank, share)
    assert one == two
    alone, state = share(0, 1)
    assert [sorted(problems) for problems in one[0]] == [sorted(problems) for problems in alone]
    assert one[1] == state
    unfiltered = [served(data(), iteration) for iteration in range(10)]
    assert alone != unfiltered, "the filter must change something"


def test_a_run_leaves_problems_out_and_goes_on_after_a_resume(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "task").mkdir()
    (tmp_path / "task" / "coin.yaml").write_text("_target_: tests.support.coin.Parity\n")
    policy = random_policy(tmp_path / "policy")
    common = (
        f"policy.path={policy}",
        "task=coin",
        "data.difficulty.max_accuracy=0.9",
        "data.difficulty.min_accuracy=0.1",
        "data.difficulty.groups=1",
        "policy.optimizer.learning_rate=1e-5",
        "callbacks.evaluation.problems=0",
    )
    full, half, rest = (tmp_path / name for name in ("full", "half", "rest"))
    resume = f"ckpt_path={half / 'checkpoints' / 'last.ckpt'}"
    run(monkeypatch, tmp_path, *common, "trainer.max_epochs=14", into=full)
    run(monkeypatch, tmp_path, *common, "trainer.max_epochs=10", into=half)
    run(monkeypatch, tmp_path, *common, "trainer.max_epochs=14", resume, into=rest)
    tables = []
    for folder in (full, half, rest):
        files = sorted(folder.glob("rollouts/*.parquet"))
        tables.append(pd.concat(pd.read_parquet(file) for file in files))
    pd.testing.assert_frame_equal(tables[0], pd.concat(tables[1:]))
    accuracy = tables[0].groupby(["problem", "iteration"]).reward.mean().reset_index()
    out = {}
    for _, row in accuracy.sort_values("iteration").iterrows():
        assert row.problem not in out, "left out for good"
        if row.reward in (0, 1):
            out[row.problem] = row.iteration
    assert len(out) > 4 and len(accuracy) == 14 * 8, "problems were left out of full iterations"
    metrics = pd.read_csv(full / "metrics.csv")
    left_out = (metrics["data/too_easy"] + metrics["data/too_hard"]).iloc[-1]
    assert left_out == pytest.approx(len(out) / 48)
