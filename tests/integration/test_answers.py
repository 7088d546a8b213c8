"""Numbers in every spelling, published references, and answers from public reports."""

import json
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import pyarrow.parquet
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from asym_lightning.verify.math import MathVerifier
from asym_lightning.verify.math_scorer import verify_answer
from benchmarks.attack import FIXED, derived, is_same, references

# Solutions of MATH train that do not verify against their answer: the answer is the last of
# several boxes, or the last box is empty.
SEVERAL_BOXES = {"(8,38)", "(0, 1)", "9", "(-5, 1)", "8\\!:\\!34 \\text{ p.m.}", "150^\\circ", "-3"}


@pytest.fixture(scope="module")
def verifier() -> Iterator[MathVerifier]:
    verifier = MathVerifier()
    yield verifier
    verifier.close()


def rewards(verifier: MathVerifier, completions: list[str], answers: list[str]) -> list[float]:
    verdicts = verifier.score(completions, answers, [False] * len(answers))
    return [verdict.reward for verdict in verdicts]


def test_answers_of_public_reports(verifier: MathVerifier, shared_data: Path) -> None:
    path = shared_data / "answers.jsonl"
    if not path.exists():
        pytest.skip("needs answers.jsonl in the folder that ASYM_LIGHTNING_DATA names")
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    found = rewards(verifier, [row["completion"] for row in rows], [row["answer"] for row in rows])
    wrong = [
        (row["completion"], row["answer"])
        for row, reward in zip(rows, found, strict=True)
        if not row.get("arguable") and bool(reward) != row["right"]
    ]
    assert len(rows) > 200 and not wrong


@pytest.mark.parametrize(("name", "missed"), [("math500", 0), ("math_train", 9)])
def test_reference_solutions_verify(
    verifier: MathVerifier, shared_data: Path, name: str, missed: int
) -> None:
    rows = pyarrow.parquet.read_table(shared_data / f"{name}.parquet").to_pylist()
    answers = [row["answer"] for row in rows]
    found = rewards(verifier, [row["solution"] for row in rows], answers)
    lost = [gold for gold, reward in zip(answers, found, strict=True) if not reward]
    assert len(lost) == missed and set(lost) <= SEVERAL_BOXES | {""}


def test_no_cheap_string_is_paid_for_another_value(
    verifier: MathVerifier, shared_data: Path
) -> None:
    """``benchmarks/attack.py`` on some of the references."""
    golds = list(references(shared_data).items())[::150]
    tries = [
        (f"\\boxed{{{text}}}", gold)
        for gold, _ in golds
        for text, values in FIXED.items()
        if not is_same(text, gold, values)
    ]
    tries += [(text, gold) for gold, problem in golds for _, text in derived(gold, problem)]
    found = rewards(verifier, [text for text, _ in tries], [gold for _, gold in tries])
    assert len(tries) > 3000
    assert not [pair for pair, reward in zip(tries, found, strict=True) if reward]


def spellings(value: Fraction) -> list[str]:
    """A number as people write it."""
    sign = "-" if value < 0 else ""
    top, bottom = abs(value.numerator), value.denominator
    if bottom == 1:
        digits = str(top)
        return [
            f"{sign}{top}", f"{sign}{top}.0", f"${sign}{top}$", f"x = {sign}{top}", f"{sign}{top}.",
            f"\\text{{{sign}{top}}}", f"{sign}{top:,}", f"{sign}{top:,}".replace(",", "\\,"),
            f"{sign}{top:,}".replace(",", "{,}"), f"{sign}\\frac{{{3 * top}}}{{3}}",
            f"{sign}{top}\\text{{ cm}}",
            f"\\mathbf{{{sign}{top}}}", f"({sign}{top})", f"{sign}00{top}", f"**{sign}{top}**",
            f"{sign}{digits[0]}.{digits[1:] or '0'}e{len(digits) - 1}",
            f"{sign}{digits[0]}.{digits[1:] or '0'} \\times 10^{{{len(digits) - 1}}}",
        ]  # fmt: skip
    found = [
        f"{sign}\\frac{{{top}}}{{{bottom}}}", f"{sign}{top}/{bottom}",
        f"\\frac{{{sign}{top}}}{{{bottom}}}",
        f"{sign}\\dfrac{{{7 * top}}}{{{7 * bottom}}}",
        f"\\left({sign}\\tfrac{{{top}}}{{{bottom}}}\\right)",
        f"{sign}{top} ÷ {bottom}",
    ]  # fmt: skip
    units, rest = divmod(top, bottom)
    if units:
        found += [f"{sign}{units}\\frac{{{rest}}}{{{bottom}}}", f"{sign}{units} {rest}/{bottom}"]
    return found


NUMBERS = st.one_of(
    st.integers(-(10**30), 10**30).map(Fraction),
    st.fractions(min_value=-1000, max_value=1000, max_denominator=997),
    st.fractions(max_denominator=10**25),
)


@settings(max_examples=30, deadline=None)
@given(NUMBERS, st.integers(1, 40))
def test_a_number_is_itself_in_every_spelling_and_never_its_neighbour(
    value: Fraction, power: int
) -> None:
    reference = spellings(value)[0]
    neighbours = [value + Fraction(1, 10**power), value + 1, value * (1 + Fraction(1, 2**power))]
    for text in spellings(value):
        assert verify_answer(text, reference).kind == "correct", (text, reference)
        assert verify_answer(reference, text).kind == "correct", (reference, text)
        for other in neighbours:
            if other != value:
                assert verify_answer(text, spellings(other)[0]).kind == "wrong", (text, other)
