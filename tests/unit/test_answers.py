"""The judge of mathematical answers: pairs by kind, and what holds for every number."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from asym_lightning.verify.answers.forms import TooLarge
from asym_lightning.verify.answers.judge import describe, judge
from asym_lightning.verify.answers.normalise import normalise
from asym_lightning.verify.answers.numbers import read_number
from asym_lightning.verify.extract import BETWEEN_BOXES
from asym_lightning.verify.math_scorer import judge_text, verify_answer
from tests.support.answer_pairs import DECISIONS, KINDS, Kind
from tests.support.scripts import script


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.title.replace(" ", "_"))
def test_pairs(kind: Kind) -> None:
    refused = [pair for pair in kind.accepted if verify_answer(*pair).kind != "correct"]
    paid = [pair for pair in kind.refused if verify_answer(*pair).kind == "correct"]
    assert (refused, paid) == ([], [])


def test_every_reference_of_the_table_is_read_and_right_for_itself() -> None:
    for kind in KINDS:
        for _, reference in (*kind.accepted, *kind.refused):
            assert judge(reference, reference).kind == "correct", reference


def test_decisions() -> None:
    wrong = [
        (answer, reference)
        for answer, reference, accepted, _ in DECISIONS
        if (verify_answer(answer, reference).kind == "correct") != accepted
    ]
    assert not wrong


def test_the_page_shows_the_table() -> None:
    page = script("verification")
    assert page.TARGET.read_text(encoding="utf-8") == page.page(), "run scripts/verification.py"


def test_several_boxes_are_a_list() -> None:
    def kind(*boxes: str, reference: str) -> str:
        return judge_text(BETWEEN_BOXES.join(boxes), reference).kind

    assert kind("5", "6", reference="6, 5") == "correct"
    assert kind("5", "6", reference="6") == kind("6", "5", reference="6") == "wrong"
    assert kind("6", "6.0", reference="6") == "correct"


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        ("3 4", "unparseable"),
        ("\\frac{1}", "unparseable"),
        ("\\begin{pmatrix}", "unparseable"),
        ("\\begin{pmatrix}1&2\\\\1&2", "unparseable"),
        ("\\lfloor 10^{1000} \\pi \\rfloor", "timeout"),
        ("((((5", "unparseable"),
        ("9^{9^{9^9}}", "timeout"),
        ("(10^{9})!", "timeout"),
        ("10^{10^{10}}", "timeout"),
        ("\\binom{10^{9}}{10^{8}}", "timeout"),
        ("6", "wrong"),
    ],
)
def test_what_is_not_right_has_a_kind_and_a_reason(answer: str, kind: str) -> None:
    judgement = judge(answer, "5")
    assert judgement.kind == kind and judgement.why


def test_a_reference_that_cannot_be_read_is_an_error_but_for_its_own_text() -> None:
    odd = "f(x)=ax, where $\\mho(a)=0$"
    assert judge("5", odd).kind == "error" and "cannot be parsed" in judge("5", odd).why
    assert judge(odd, odd).kind == "correct"


def test_nested_brackets_and_long_texts_end() -> None:
    for text in (
        "(" * 900 + "1" + ")" * 900,
        "\\sqrt{" * 150 + "1" + "}" * 150,
        "1," * 450,
        "-" * 900,
    ):
        assert judge(text, "1").kind in ("unparseable", "wrong", "timeout")
    with pytest.raises(ValueError, match="longer than"):
        normalise("9" * 5000)
    assert isinstance(TooLarge(), Exception)
    assert describe("9^{9^{9^9}}").startswith("not computed")


@settings(max_examples=8, deadline=None)
@given(st.integers(1, 10**18), st.integers(2, 400))
def test_roots_are_exact(value: int, offset: int) -> None:
    root = f"\\sqrt{{{value**2 + offset}}}"
    expected = "correct" if offset == 2 * value + 1 else None
    judgement = judge(str(value), root)
    assert judgement.kind == (expected or "wrong")
    assert judge(f"\\sqrt{{{value**2 * 3}}}", f"{value}\\sqrt{{3}}").kind == "correct"


@settings(max_examples=60, deadline=None)
@given(st.text(alphabet="0123456789 ,.-+*/^_(){}[]\\$%=<>xeabm:|!&;'", max_size=24))
def test_every_text_has_a_judgement(text: str) -> None:
    judgement = judge(text, "\\frac{7}{3}")
    assert judgement.kind in ("correct", "wrong", "unparseable", "timeout")


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 999), st.integers(0, 9999))
def test_two_numbers_side_by_side_are_thousands_or_no_number(first: int, second: int) -> None:
    text = f"{first} {second:03d}"
    number = read_number(normalise(text))
    grouped = first > 0 and second < 1000
    assert number is None if not grouped else number and number.value == first * 1000 + second
