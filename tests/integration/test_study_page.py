"""The study's page: it is made of the table of runs alone."""

import json
import sys
from pathlib import Path

import pytest

from benchmarks.study import claims
from benchmarks.study.__main__ import main
from benchmarks.study.plan import FULL
from benchmarks.study.records import save
from tests.support.study import rows_of


def test_the_page_is_made_of_the_file_of_runs_alone_and_again_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = tmp_path / "study" / "runs.csv"
    table.parent.mkdir()
    save(rows_of(*FULL), table)
    line = ["study", "--report", "--folder", str(tmp_path / "none"), "--out", str(tmp_path)]
    monkeypatch.setattr(sys, "argv", line)
    files = (tmp_path / "study.md", tmp_path / "study" / "stats.json", table)
    texts = []
    for _ in range(2):
        main()
        texts.append([file.read_text() for file in files])
    assert texts[0] == texts[1]
    page = texts[0][0]
    found = json.loads(texts[0][1])
    assert len(found) == sum(map(len, claims.FULL.values()))
    assert all(c["paired"]["t_interval"] for c in found)
    for name in ("frontiers", "methods", "exponents", "pass_at_k", "ledger", "covariance"):
        assert f"study/{name}.png" in page
        assert (tmp_path / "study" / f"{name}.png").stat().st_size > 10000
    assert "160,000 to 160,000 tokens generated in 100 iterations" in page, "with any budget"
    assert "| not run |" not in page and "Not run." not in page
