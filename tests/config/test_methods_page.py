"""docs/methods.md says what the configs and docstrings say."""

from pathlib import Path

from asym_lightning.algorithms import BetaFamily
from asym_lightning.analysis.shapes import DOCS, draw, page, shape


def test_the_page_is_current() -> None:
    assert (DOCS / "methods.md").read_text() == page(), (
        "run `python -m asym_lightning.analysis.shapes`"
    )


def test_a_shape_has_no_value_where_there_is_no_rollout(tmp_path: Path) -> None:
    values = shape(BetaFamily(1, 1))
    assert values[0] == (None, 0.0) and values[8] == (0.0, None)
    assert values[2] == (3.0, -1 / 3)


def test_the_picture_is_drawn(tmp_path: Path) -> None:
    draw(tmp_path / "shapes.png")
    assert (tmp_path / "shapes.png").read_bytes().startswith(b"\x89PNG")
