"""The paper's experiments run as they are on the embedded policy."""

from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet
import pytest

from tests.support.commands import metrics, summary
from tests.support.paper import EXPERIMENTS
from tests.support.runs import random_policy, run

# A synthetic row with the columns of each set on the hub.
SETS: dict[str, dict[str, Any]] = {
    "math": {"problem": "1 + 1?", "solution": "It is \\boxed{2}."},
    "math500": {"problem": "2 + 1?", "answer": "3", "solution": "It is \\boxed{3}."},
    "aime24": {"problem": "3 + 1?", "solution": "\\boxed{004}"},
    "aime25": {"problem": "4 + 1?", "answer": "5"},
    "amc23": {"question": "5 + 1?", "answer": "6.0"},
    "olympiadbench": {
        "question": "Which numbers have a square of 49?",
        "final_answer": ["-7", "7"],
    },
}


def write_set(folder: Path, name: str, rows: int = 1) -> Path:
    file = folder / f"{name}.parquet"
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist([SETS[name]] * rows), file)
    return file


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_the_file_runs_on_the_embedded_policy(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sets = [benchmark for benchmark in SETS if benchmark != "math"]
    data = [f"task.path={write_set(tmp_path, 'math', 8)}"]
    data += [f"benchmarks.{benchmark}.path={write_set(tmp_path, benchmark)}" for benchmark in sets]
    small = [
        "rollout.prompts_per_iteration=4",
        "rollout.group_size=8",
        "callbacks.evaluation.problems=1",
    ]
    policy = f"policy.path={random_policy(tmp_path / 'random')}"
    experiment = (f"experiment={name}", "debug=tiny")
    folder = run(monkeypatch, tmp_path, *experiment, policy, *data, *small)
    got = summary(folder)
    assert got["status"] == "done"
    assert got["iterations"] == 1
    assert got["config"]["policy"]["optimizer"]["learning_rate"] == 2e-6
    assert {f"eval/{benchmark}/greedy" for benchmark in sets} <= set(got["evaluation"]["after"])
    assert "eval/aime24/pass@8" in got["evaluation"]["after"]
    assert metrics(folder)["clip/high"].notna().all(), "two updates: the second has a ratio"
    assert (folder / "checkpoints" / "best.ckpt").is_file()
