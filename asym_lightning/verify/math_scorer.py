"""Judgement of mathematical answers; runs in the jailed worker only.

Normalise, parse and compare are ``asym_lightning.verify.answers``. No text reaches ``eval``,
``exec``, or a parser of sympy that runs code.
"""

import logging
import re
from collections.abc import Callable
from typing import Any

from asym_lightning.verify.answers.judge import Judgement, describe, judge
from asym_lightning.verify.extract import BETWEEN_BOXES

_INTEGER = re.compile(r"-?[0-9]{1,1000}")


def verify_answer(answer: str, reference: str) -> Judgement:
    """Return the judgement on an answer; most answers are integers, which need no parser."""
    if _INTEGER.fullmatch(answer) and _INTEGER.fullmatch(reference):
        if int(answer) == int(reference):
            return Judgement("correct", "the same whole number", answer, reference=reference)
        return Judgement("wrong", "different whole numbers", str(int(answer)), reference=reference)
    return judge(answer, reference)


def judge_text(text: str, reference: str) -> Judgement:
    """Return the judgement on the answer, or on several boxes that belong together.

    Boxes side by side are a list: for a reference of one value all of them must have that value.
    """
    boxes = text.split(BETWEEN_BOXES)
    return verify_answer(", ".join(boxes), reference)


def make() -> Callable[[str, str], dict[str, Any]]:
    """Return the scorer of ``(text, reference)``.

    Its text is the answer, or the contents of several boxes, separated by a newline and a NUL.
    """
    # math-verify warns that its time limit is off; the supervisor of this process keeps the limit.
    logging.disable()
    # Loads the modules that sympy and math-verify import lazily.
    for answer, reference in (
        ("\\frac{x}{2} + \\sqrt{2}", "x + 0.5"),
        ("(1, \\infty)", "x > \\sqrt{3}"),
        ("\\sqrt{3 + 2\\sqrt{2}}", "1 + \\sqrt{2}"),
        ("\\sin^2 x", "1 - \\cos^2 x"),
        ("\\sum_{n=1}^{3} n", "6"),
    ):
        verify_answer(answer, reference)

    def score(text: str, reference: str) -> dict[str, Any]:
        judgement = judge_text(text, reference)
        correct = judgement.kind == "correct"
        return {
            "kind": judgement.kind,
            "reward": float(correct),
            "answer": reference if correct else judgement.answer,
            "detail": "" if judgement.kind in ("correct", "wrong") else judgement.why,
        }

    return score


def make_explained() -> Callable[[str, str], dict[str, Any]]:
    """Return a scorer whose replies hold the parsed form of the text and the reason."""
    logging.disable()

    def score(text: str, reference: str) -> dict[str, Any]:
        judgement = judge_text(text, reference)
        form = " | ".join(describe(box) for box in text.split(BETWEEN_BOXES))
        reward = float(judgement.kind == "correct")
        return {"kind": judgement.kind, "reward": reward, "answer": form, "detail": judgement.why}

    return score
