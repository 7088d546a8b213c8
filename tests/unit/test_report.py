"""The report: self-contained, escaped, with a figure for every number of the runs."""

import base64
import json
from html.parser import HTMLParser
from pathlib import Path

import pytest

from asym_lightning.analysis.arms import Arm
from asym_lightning.analysis.canvas import Canvas
from asym_lightning.analysis.report import interval, number, p_value, signed
from tests.support.reports import five_seeds, report
from tests.support.synthetic import write_run

PNG = "data:image/png;base64,"
REFERENCES = {"src", "href", "srcset", "data", "action", "poster", "background"}


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return report(tmp_path_factory.mktemp("report"), five_seeds)


class Reader(HTMLParser):
    """Collects tags with their attributes, and the text of headings."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.headings: list[str] = []
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self.open.append(tag)

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] == "h2":
            self.headings.append(data)
            self.open.append("")


def read(page: Path) -> Reader:
    reader = Reader()
    reader.feed((page / "report.html").read_text())
    return reader


def test_nothing_is_loaded_from_outside(page: Path) -> None:
    references = [
        (tag, name, value)
        for tag, attributes in read(page).tags
        for name, value in attributes.items()
        if name in REFERENCES
    ]
    assert len(references) > 15
    for tag, name, value in references:
        assert value is not None
        inside = {("a", "href"): "#", ("img", "src"): PNG}
        assert value.startswith(inside[tag, name])
    tags = {tag for tag, _ in read(page).tags}
    assert not tags & {"link", "iframe", "object", "embed", "base", "form"}
    text = (page / "report.html").read_text()
    assert "url(" not in text and "@import" not in text


def test_the_order_is_verdicts_inequalities_figures_runs(page: Path) -> None:
    assert read(page).headings == [
        "Verdicts",
        "Every measure",
        "What is not equal between runs",
        "Training",
        "Entropy",
        "Held-out and pass@k",
        "Sweeps",
        "Runs",
    ]


def test_text_from_runs_is_escaped_everywhere(page: Path) -> None:
    text = (page / "report.html").read_text()
    assert "&lt;script&gt;document.title=" in text
    assert "<script>document.title" not in text
    assert "<b>broken" not in text
    assert "metrics.csv cannot be read" in text
    assert [tag for tag, _ in read(page).tags].count("script") == 1
    for picture in (page / "figures").glob("*.svg"):
        assert "<script>" not in picture.read_text()


TRAINING = {"reward", "unsolved", "length", "covariance"}
ENTROPY = {"entropy", "entropy-right", "entropy-wrong", "entropy-against-reward"}
LEDGER = {
    f"ledger-{way}-{side}" for way in ("predicted", "measured") for side in ("right", "wrong")
}
PASS_AT_K = {"pass-at-k-held-out", "pass-at-k-training"}
PROFILES = {"profile-reward-last-10", "profile-held-out-pass@1", "profile-held-out-pass@8"}
HELDOUT = {"eval-held-out-pass@1", "eval-held-out-pass@8"}
FRONTIERS = {"frontier-held-out-pass@8", "frontier-entropy-nats-last-10"}
FIGURES = TRAINING | ENTROPY | LEDGER | PASS_AT_K | PROFILES | HELDOUT | FRONTIERS


def test_every_figure_is_there_as_png_and_svg_and_in_the_page(page: Path) -> None:
    names = {path.stem for path in (page / "figures").glob("*.png")}
    assert names == {path.stem for path in (page / "figures").glob("*.svg")}
    assert names == FIGURES
    inside = [attributes for tag, attributes in read(page).tags if tag == "img"]
    shown = {base64.b64decode((attributes["src"] or "").removeprefix(PNG)) for attributes in inside}
    assert shown == {path.read_bytes() for path in (page / "figures").glob("*.png")}
    assert all(a["alt"] for a in inside)


def test_the_frontier_is_said_in_words(page: Path) -> None:
    gaps = json.loads((page / "stats.json").read_text())["frontier_gaps"]
    assert [(g["method"], g["measure"]) for g in gaps] == [
        ("asymgrpo", "eval/heldout/pass@8"),
        ("asymgrpo", "entropy/policy"),
    ]
    assert gaps[1]["verdict"] == "higher" and gaps[1]["above"]
    text = (page / "report.html").read_text()
    assert gaps[1]["statement"] in text and "mean gap" in gaps[1]["statement"]


def test_what_is_not_equal_stands_at_the_top_and_in_a_list(page: Path) -> None:
    text = (page / "report.html").read_text()
    assert text.index("Not everything but the method is equal") < text.index('id="verdicts"')
    assert "task.heldout_size" in text[: text.index('id="verdicts"')]
    assert text.count("task.heldout_size") == 2


def test_a_grid_of_exponents_has_a_heat_map_and_many_methods_have_panels(tmp_path: Path) -> None:
    def fill(logs: Path) -> None:
        for positive in (0.0, 0.5, 0.9):
            for negative in (0.0, 0.5):
                given = {"algo.advantage.beta_pos": positive, "algo.advantage.beta_neg": negative}
                folder, reward = logs / f"{positive}-{negative}", 0.5 + positive / 10
                write_run(folder, "asymgrpo", 1, reward=reward, overrides=given)
        for name in ("grpo", "reinforce"):
            write_run(logs / name, name, 1)

    folder = report(tmp_path, fill)
    assert (folder / "figures" / "grid-1.png").exists()
    text = (folder / "report.html").read_text()
    assert "Grid of exponents" in text
    assert 'class="wide"' in text
    assert "asymgrpo, beta_pos 0.9, beta_neg 0.5" in text


def test_evaluations_in_between_give_every_measure_a_curve(tmp_path: Path) -> None:
    def fill(logs: Path) -> None:
        table = write_run(logs / "run", iterations=20) / "metrics.csv"
        header, *rows = table.read_text().splitlines()
        # The evaluation before training, repeated after ten iterations.
        middle = rows[0].split(",")
        middle[header.split(",").index("step")] = "10"
        table.write_text("\n".join([header, *rows, ",".join(middle)]))

    names = {path.stem for path in (report(tmp_path, fill) / "figures").glob("eval-*.png")}
    measures = ("pass@1", "pass@8", "avg@8", "maj@8", "distinct-correct")
    assert names == {f"eval-held-out-{name}" for name in measures}


def arm(label: str, method: str) -> Arm:
    return Arm(label, method, {}, runs={})


@pytest.mark.parametrize("methods", [2, 7, 12, 40])
def test_colours_are_told_apart_within_every_panel(tmp_path: Path, methods: int) -> None:
    arms = [arm(f"m{i}", f"m{i}") for i in range(methods)]
    canvas = Canvas(arms, {a.label: arms[0] for a in arms}, tmp_path)
    panels = canvas.panels(arms)
    assert {a.label for panel in panels for a in panel} == {a.label for a in arms}
    for panel in panels:
        looks = [canvas.look(a)["color"] for a in panel]
        assert len(set(looks)) == len(panel) <= 7 and arms[0] in panel


def test_settings_of_a_method_share_its_colour_and_differ_in_style(tmp_path: Path) -> None:
    arms = [arm("a, rate 1", "a"), arm("a, rate 2", "a"), arm("b", "b")]
    canvas = Canvas(arms, {a.label: None for a in arms}, tmp_path)
    looks = [canvas.look(a) for a in arms]
    assert looks[0]["linestyle"] != looks[1]["linestyle"]
    assert looks[0]["color"] != looks[1]["color"] != looks[2]["color"]


def test_numbers_are_written_short() -> None:
    short = [number(value) for value in (0.12345, -0.5, 12.34, 1234.5, 0, 0.00012)]
    assert short == ["0.123", "\u22120.500", "12.3", "1234", "0.000", "1.2e\u221204"]
    assert (signed(0.5), signed(-0.5)) == ("+0.500", "\u22120.500")
    assert (interval(None), interval((0, 1))) == ("–", "0.000 to 1.000")
    assert (p_value(None), p_value(0.0002), p_value(0.25)) == ("–", "<0.001", "0.250")
