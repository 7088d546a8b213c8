"""The study's page is made of its table of runs alone."""

import json
import sys
from pathlib import Path

import pytest

from benchmarks.study import claims
from benchmarks.study.__main__ import main
from benchmarks.study.plan import FULL
from benchmarks.study.records import save
from tests.support.study import rows_of


def test_the_page_is_made_of_the_file_of_runs_alone_and_again_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    table = tmp_path / "study" / "runs.csv"
    table.parent.mkdir()
    save(rows_of(*FULL), table)
    monkeypatch.setattr(sys, "argv", ["study", "--report", "--folder", str(tmp_path / "none"), "--out", str(tmp_path)])
    texts = []
    for _ in range(2):
        main()
        texts.append(((tmp_path / "study.md").read_text(), (tmp_path / "study" / "stats.json").read_text(), table.read_text()))
    assert texts[0] == texts[1]
    found = json.loads(texts[0][1])
    assert len(found) == sum(map(len, claims.FULL.values())) and all(c["paired"]["t_interval"] for c in found)
    for name in ("frontiers", "methods", "exponents", "pass_at_k", "ledger", "covariance"):
        assert f"study/{name}.png" in texts[0][0] and (tmp_path / "study" / f"{name}.png").stat().st_size > 10000
    assert "160,000 to 160,000 tokens generated in 100 iterations" in texts[0][0], "whatever their budgets"
    assert "| not run |" not in texts[0][0] and "Not run." not in texts[0][0]
