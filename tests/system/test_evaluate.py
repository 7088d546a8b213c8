"""`python evaluate.py` as a command, with the real vLLM."""

import os
from pathlib import Path

import pandas as pd

from tests.support import preloaded
from tests.support.evaluations import arguments, completions, results


def test_an_interrupted_evaluation_continued_on_two_ranks_is_the_whole_one(
    benchmark_folder: Path, tmp_path: Path
) -> None:
    environment = os.environ | {"INTERRUPT_AT": "3"}
    line = arguments(benchmark_folder, tmp_path / "two")
    stopped = preloaded.command(line, environment=environment)
    status, output = stopped.wait(200), stopped.output
    assert status == 130 and "goes on from here" in output and "Traceback" not in output, output
    kept = list((tmp_path / "two" / "parts").rglob("*.parquet"))
    assert 0 < len(kept) < 8 + 3 and not (tmp_path / "two" / "amc23.parquet").exists()
    for into, more in (("whole", ()), ("two", ("--devices", "2"))):
        done = preloaded.command(arguments(benchmark_folder, tmp_path / into, *more))
        status, output = done.wait(280), done.output
        assert status == 0, output
        assert "amc23: 1 of 7 prompts have more than" in output
        assert "by bootstrap over problems" in output
    pd.testing.assert_frame_equal(completions(tmp_path / "whole"), completions(tmp_path / "two"))
    assert results(tmp_path / "whole") == results(tmp_path / "two")
    assert not (tmp_path / "two" / "parts").exists()
