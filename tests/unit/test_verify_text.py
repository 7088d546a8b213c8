"""Finding answers, comparing them without a worker, and composite rewards."""

import json
import subprocess
import sys
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asym_lightning.tasks.mixture import MixtureVerifier
from asym_lightning.types import ConfigError, Kind, Verdict
from asym_lightning.verify.composite import CompositeVerifier, think_then_answer
from asym_lightning.verify.extract import last_boxes, lenient
from asym_lightning.verify.failures import Failures, VerificationError
from asym_lightning.verify.math_scorer import verify_answer
from asym_lightning.verify.text import ExactMatch, MultipleChoice, NumberWithTolerance, number
from tests.support import ROOT


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("The answer is 3. But \\boxed{4}", "4"),
        ("The answer is 3.", "3"),
        ("the answer is 1. Wait. The final answer is: $\\frac{1}{2}$.", "\\frac{1}{2}"),
        ("**Answer:** 1,234 apples", "1,234"),
        ("Answer: x + 1", "x + 1"),
        ("The answer is 3x+2.", "3x+2"),
        ("The answer is 62.5%.", "62.5%"),
        ("The answer to the second question is \\(x^2\\).", "x^2"),
        ("She has 5 + 3 = 8.\n#### 8", "8"),
        ("Answer: Evelyn", "Evelyn"),
        ("so it is\n$$x = 5$$", "x = 5"),
        ("first 3\nthen there are 12 of them", "12"),
        ("The answer is 3 and \\boxed{}", "3"),
        ("It is \\boxed{5}. \\boxed{}", "5"),
        ("The answer is 10 or 12.", "10 or 12"),
        ("Answer: $\\frac12$ or $\\frac13$", "\\frac12, \\frac13"),
        ("The answer is 1.5e3", "1.5e3"),
        ("The answer is 1 1/2.", "1 1/2"),
        ("The answer is 12 345.", "12 345"),
        ("so x is 10 or 12", "10, 12"),
        ("so x is $5$ and $6$.", "5, 6"),
        ("it is 12 345", "12 345"),
    ],
)
def test_lenient_extraction(text: str, answer: str) -> None:
    assert lenient(text) == (answer, True)


def test_lenient_extraction_of_nothing() -> None:
    assert lenient("I do not know") == (None, False)
    # The number at the end of the last line.
    assert lenient("\\boxed{1") == ("1", True)
    assert lenient("") == (None, False)
    # A number within an expression is no answer.
    assert lenient("2^{2^{1}}") == (None, False)


LONG = {
    "answer is ": None,
    "$": None,
    "1,": "1" + ",1" * 9_999,
    "\\(": None,
    "\\text{": None,
    " ": None,
    "\\boxed{1} or ": "1",
}


def test_extraction_takes_linear_time() -> None:
    """Runs in another process: an extraction of quadratic time would not end."""
    program = "\n".join(
        [
            "import json, sys",
            "from asym_lightning.verify.extract import last_boxes, lenient",
            "texts = [part * 300_000 for part in json.load(sys.stdin)]",
            "print(json.dumps([(lenient(text)[0], len(last_boxes(text))) for text in texts]))",
        ]
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        input=json.dumps(list(LONG)),
        capture_output=True,
        text=True,
        timeout=60,
        cwd=ROOT,
    )
    want = [[answer, 20 if "boxed" in text else 0] for text, answer in LONG.items()]
    assert json.loads(done.stdout) == want


@given(st.text(alphabet="\\boxed{}$ answeri:1.\n*#(),", max_size=60))
def test_extraction_has_an_answer_for_every_text(text: str) -> None:
    answer, there = lenient(text)
    assert there or answer is None


def test_boxes_that_belong_together() -> None:
    assert last_boxes("\\boxed{9}. So $x = \\boxed{1}$ or $\\boxed{2}$.") == ["1", "2"]
    three = "so \\boxed{9}, hence it is \\boxed{1}, $\\boxed{2}$ and \\boxed{3}"
    assert last_boxes(three) == ["1", "2", "3"]
    assert last_boxes("\\boxed{1") == [] and last_boxes("none") == []


BRACKETS = "\\begin{bmatrix}1\\\\2\\end{bmatrix}"
PARENTHESES = "\\begin{pmatrix} 1 \\\\ 2 \\end{pmatrix}"


@pytest.mark.parametrize(
    ("answer", "gold", "kind"),
    [
        ("15", "15\\mbox{ cm}^2", "correct"),
        ("8", "8\\%", "correct"),
        ("0.08", "$8 \\%$", "correct"),
        ("7\\%", "$8\\%$", "wrong"),
        ("Evelyn", "\\text{Evelyn}", "correct"),
        ("\\text{(C)}", "C", "correct"),
        ("D", "\\text{(C)}", "wrong"),
        ("[-2,7]", "x \\in [-2,7]", "correct"),
        ("(-2,7)", "[-2,7]", "wrong"),
        ("1+\\sqrt{19},1-\\sqrt{19}", "1 \\pm \\sqrt{19}", "correct"),
        ("84,69", "$69$,$84$", "correct"),
        ("84", "$69$,$84$", "wrong"),
        ("(2,1),(3,4)", "(3,4),(1,2)", "wrong"),
        ("32348", "\\$32,\\!348", "correct"),
        ("32347", "\\$32,\\!348", "wrong"),
        ("18.9", "\\$18.90", "correct"),
        ("1.8", "1\\frac45", "correct"),
        (BRACKETS, PARENTHESES, "correct"),
        ("\\frac{2469}{20000}", "\\dfrac{2469}{20,\\!000}", "correct"),
        ("007", "7", "correct"),
        ("8", "7", "wrong"),
    ],
)
def test_mathematics(answer: str, gold: str, kind: str) -> None:
    assert verify_answer(answer, gold).kind == kind


def kinds(verdicts: list[Verdict]) -> list[str]:
    return [str(verdict.kind) for verdict in verdicts]


def test_exact_match() -> None:
    texts = ["\\boxed{The  Cat}", "\\boxed{dog}", "cat", "\\boxed{cat", "\\boxed{the cat}"]
    cut = [False] * 4 + [True]
    verdicts = ExactMatch().score(texts, ["the cat"] * 5, cut)
    assert kinds(verdicts) == ["correct", "wrong", "no_answer", "unparseable", "truncated"]
    verifier = ExactMatch(extract="whole", case_sensitive=True)
    verdicts = verifier.score([" a b", "A b"], ["a b"] * 2, [False] * 2)
    assert kinds(verdicts) == ["correct", "wrong"]
    with pytest.raises(ConfigError, match=r"^extract=tail: must be one of boxed, lenient, whole$"):
        ExactMatch("tail")


def test_a_verdict_has_the_answer_as_written_beside_the_reference() -> None:
    texts = ["\\boxed{ 1e3 }", "\\boxed{1000}", "\\boxed{x}", "none", "\\boxed{1000}"]
    verdicts = NumberWithTolerance("boxed").score(texts, ["1000"] * 5, [False] * 4 + [True])
    assert kinds(verdicts) == ["correct", "correct", "unparseable", "no_answer", "truncated"]
    assert [verdict.text for verdict in verdicts] == ["1e3", "1000", "x", None, None]
    assert [verdict.is_other_text for verdict in verdicts] == [True, False, True, None, None]
    (choice,) = MultipleChoice().score(["The answer is (B)"], ["B"], [False])
    assert (choice.answer, choice.text, choice.reference) == ("B", "(B)", "B")
    mixture = MixtureVerifier({"sums": ExactMatch("whole")})
    (exact,) = mixture.score(["4"], ["sums:4"], [False])
    assert exact.is_other_text is False, "the name of a source is no part of the reference"


def test_multiple_choice() -> None:
    texts = [
        "The answer is (B).",
        "\\boxed{\\text{(B)}}",
        "Answer: b",
        "Answer: A. Apples",
        "the answer is Both",
        "\\boxed{B}",
    ]
    references = ["B", "(B)", "b", "B", "B", "\\text{(B)}"]
    verdicts = MultipleChoice().score(texts, references, [False] * 6)
    assert kinds(verdicts) == ["correct"] * 3 + ["wrong", "unparseable", "correct"]
    assert verdicts[0].answer == verdicts[2].answer == "B"
    right = ["Option B", "\\mathbf{B}", "(b)", "B) 5", "B. Apples and pears", "**B**", "B because"]
    several = ["B and C", "A or B", "A, B", "A/B", "(A) (B)", "AB", "a cat", "both", "B (or C)"]
    boxes = [f"\\boxed{{{text}}}" for text in (*right, *several)]
    verdicts = MultipleChoice().score(boxes, ["B"] * len(boxes), [False] * len(boxes))
    assert kinds(verdicts) == ["correct"] * len(right) + ["unparseable"] * len(several)
    [failed] = MultipleChoice().score(["Answer: A"], ["12"], [False])
    assert failed.kind is Kind.ERROR and "reference answer '12' is not a choice" in failed.detail


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1,234.5", Fraction(2469, 2)),
        ("-3/4", Fraction(-3, 4)),
        ("\\frac{3}{4}", Fraction(3, 4)),
        ("-\\dfrac{3}{4}", Fraction(-3, 4)),
        ("8\\%", Fraction(2, 25)),
        ("$\\$36$", Fraction(36)),
        ("1.5e3", Fraction(1500)),
        ("2 \\times 10^{-2}", Fraction(1, 50)),
        (".5", Fraction(1, 2)),
        ("12.", Fraction(12)),
        ("1e3", Fraction(1000)),
        ("1 1/2", Fraction(3, 2)),
        ("12 345", Fraction(12345)),
        ("1.000.000", Fraction(1000000)),
        ("\\text{5}", Fraction(5)),
        ("x=5", Fraction(5)),
        ("5\\text{ cm}", Fraction(5)),
        ("about 5", Fraction(5)),
        ("3 4", None),
        ("10 or 12", None),
        ("5:30", None),
        ("2^10", None),
        ("not 5", None),
        ("5 Monday", None),
        ("1/0", None),
        ("1e9999", None),
        ("1,2", None),
        ("٣", None),
        ("", None),
        ("x", None),
        ("1.2.3", None),
    ],
)
def test_numbers_are_read_exactly(text: str, value: Fraction | None) -> None:
    assert number(text) == value


def test_numbers_within_a_tolerance() -> None:
    texts = ["The answer is 0.1", "The answer is 0.11", "The answer is 0.111", "The answer is ten"]
    verdicts = NumberWithTolerance(absolute=0.01).score(texts, ["0.1"] * 4, [False] * 4)
    assert kinds(verdicts) == ["correct", "correct", "wrong", "unparseable"]
    verdicts = NumberWithTolerance(relative=0.11).score(texts, ["-0.1"] * 4, [False] * 4)
    assert kinds(verdicts) == ["wrong", "wrong", "wrong", "unparseable"]
    assert kinds(NumberWithTolerance().score(["0.1"], ["1/10"], [False])) == ["correct"]
    with pytest.raises(ConfigError, match=r"^absolute=-1: must be a finite number >= 0$"):
        NumberWithTolerance(absolute=-1)


def test_a_composite_reward_is_the_weighted_sum_of_its_parts() -> None:
    weights = {"correctness": 1.0, "format": 0.5, "length": 0.25}
    verifier = CompositeVerifier(ExactMatch(), weights, free_chars=10, max_chars=20)
    texts = [
        "\\boxed{1}",
        "\\boxed{2}" + " " * 6,
        "1",
        "\\boxed{1}\\boxed{1}" + "." * 50,
        "\\boxed{1}",
    ]
    verdicts = verifier.score(texts, ["1"] * 5, [False] * 4 + [True])
    assert kinds(verdicts) == ["correct", "wrong", "no_answer", "correct", "truncated"]
    assert [dict(verdict.parts) for verdict in verdicts] == [
        {"correctness": 1.0, "format": 1.0, "length": 0.0},
        {"correctness": 0.0, "format": 1.0, "length": -0.5},
        {"correctness": 0.0, "format": 0.0, "length": 0.0},
        {"correctness": 1.0, "format": 0.0, "length": -1.0},
        {"correctness": 0.0, "format": 0.0, "length": -1.0},
    ]
    assert [verdict.reward for verdict in verdicts] == [1.5, 0.375, 0.0, 0.75, -0.25]
    for bad, named in (
        ({"weights": {"style": 1.0}}, r"^weights\.style: the key must be one of correctness, "),
        ({"weights": {"format": "x"}}, r"^weights\.format=x: must be a finite number$"),
        ({"format": "xml"}, "^format=xml: must be one of boxed, think_answer$"),
        ({"free_chars": 9**9}, "^free_chars=387420489: must be below max_chars=16000$"),
        ({"correctness": 3}, r"^correctness=3: must be a verifier \(conf/verify\)"),
    ):
        with pytest.raises(ConfigError, match=named):
            CompositeVerifier(**{"correctness": ExactMatch(), "weights": weights, **bad})  # type: ignore[arg-type]


def test_thoughts_and_then_an_answer() -> None:
    assert think_then_answer(" <think>a</think>\n<answer>1</answer> ")
    for text in (
        "<think></think><answer>1</answer>",
        "<think>a</think><answer> </answer>",
        "<answer>1</answer>",
        "<think>a</think>b<answer>1</answer>",
    ):
        assert not think_then_answer(text)
    assert not think_then_answer("<think>a</think><answer>1</answer><answer>2</answer>")


def test_failures_are_shown_once_and_too_many_stop_the_run(
    capsys: pytest.CaptureFixture[str],
) -> None:
    failures = Failures(0.5)
    good = Verdict(1.0, Kind.CORRECT)
    bad = Verdict(0.0, Kind.ERROR, detail="reference answer 'x' cannot be parsed")
    failures.settle()
    failures.add(["a", "b"], ["1", "x"], [good, bad])
    failures.add(["c", "d"], ["1", "x"], [good, bad])
    failures.settle()
    shown = capsys.readouterr().out
    assert shown.count("\n") == 1
    assert shown.startswith("2 of 4 answers could not be verified, e.g.: reference answer 'x'")
    assert "'b'" in shown
    failures.add(["a", "b", "c"], ["1", "x", "y"], [good, bad, bad])
    limit = r"callbacks\.rollout\.max_verify_errors=0\.5"
    message = rf"2 of 3 answers .* more than {limit} allows: reference"
    with pytest.raises(VerificationError, match=message):
        failures.settle()
    failures.settle()  # the count starts again
    with pytest.raises(ConfigError, match="max_verify_errors=2"):
        Failures(2)
