"""docs/metrics.md and the code name the same metrics."""

import ast
import re

from tests.support import ROOT
from tests.support.metric_names import documented, expand, same, text, written


def test_names_are_read_as_meant() -> None:
    assert expand("clip/{low,high}") == ["clip/low", "clip/high"]
    assert expand("covariance/p_{edge}") == ["covariance/p_*"]
    assert text(ast.parse('f"time/{name}"').body[0].value) == "time/*"  # type: ignore[attr-defined]
    some = {"reward/mean", "covariance/p_*", "steer/beta_pos", "clip/dual", "eval/*/*", "verify/*"}
    assert some <= written()
    assert len(documented()) == len(set(documented())) > 60


def test_each_metric_has_a_definition_a_unit_and_advice() -> None:
    rows = re.findall(r"(?m)^\| (`.*)$", (ROOT / "docs" / "metrics.md").read_text())
    assert len(rows) > 50
    for row in rows:
        *cells, end = (cell.strip() for cell in row.split("|"))
        assert len(cells) == 5 and all(cells) and not end, row


def test_every_name_in_the_code_is_on_the_page() -> None:
    missing = [name for name in written() if not any(same(name, known) for known in documented())]
    assert not missing, f"docs/metrics.md lacks {sorted(missing)}"
