"""Comparison of mathematical answers by math-verify; runs in the jailed worker only.

Answers reach math-verify's LaTeX parser alone. Its extractor of plain expressions would pass them
to sympy's ``parse_expr``, which runs code.
"""

import logging
import re
from collections.abc import Callable
from functools import lru_cache
from typing import Any

_CACHED = 4096
_WORDS = re.compile(r"\\(?:text|mbox|textbf|textit|mathrm|mathbf|operatorname)\s*\{([^{}]*)\}")
_PERCENT = re.compile(r"(?<=[\d}]) ?\\?%(?=[\s.,$]*$)")
_INTEGER = re.compile(r"-?[0-9]{1,1000}")
_LETTERS = re.compile(r"[a-z]{2,}(?:[ '-]{1,2}[a-z]+)*")


def _canonical(expression: Any, text: str) -> str:
    """Return text in which equal numbers are equal, and other expressions as sympy prints them.

    Returns the raw ``text`` where that fails.
    """
    import sympy

    try:
        if getattr(expression, "is_number", False):
            expression = sympy.nsimplify(expression.doit(), rational=True)
        return str(expression)
    except Exception:
        return text


@lru_cache(_CACHED)
def _parse(text: str) -> list[Any]:
    """Parse a bare answer as LaTeX; the box makes math-verify take the complete text.

    The pool limits the time; math-verify's own limit would need signals.
    """
    from math_verify import LatexExtractionConfig, parse

    return parse(
        f"\\boxed{{{text}}}", [LatexExtractionConfig(boxed_match_priority=0)], parsing_timeout=None
    )


def plain(text: str) -> str:
    """Return an answer without typesetting.

    Removes dollar and per cent signs, separators of thousands, "approximately" and final marks.
    """
    for sign in (",\\!", "{,}", "\\$", "$", "\\!"):
        text = text.replace(sign, "")
    text = _PERCENT.sub("", text.strip().removeprefix("\\approx")).strip()
    return text if text.endswith(("\\.", "\\,")) else text.rstrip(".,").rstrip()


def words(text: str) -> str | None:
    """Return an answer in words in plain lower case, or ``None`` for mathematics.

    ``\\text{(C)}`` and ``C`` are both ``c``.
    """
    bare = _WORDS.sub(r"\1", text).replace("\\ ", " ").strip().rstrip(".").lower()
    if re.fullmatch(r"\(?[a-z]\)?", bare):
        return bare.strip("()")
    bare = " ".join(bare.split())
    return bare if _LETTERS.fullmatch(bare) and ("\\" in text or len(bare) > 3) else None


def is_list(text: str) -> bool:
    """Return whether a reference has several parts: a comma outside all brackets, or ``\\pm``."""
    depth = 0
    for at, char in enumerate(text):
        depth += (char in "([{") - (char in ")]}")
        if char == "," and depth == 0 and not re.match(r",\d{3}(?!\d)", text[at:]):
            return True
    return "\\pm" in text


@lru_cache(_CACHED)
def verify_answer(answer: str, reference: str) -> tuple[str, str | None, str]:
    """Compare an answer with the reference: ``(kind, canonical answer, detail)``."""
    from math_verify import verify

    correct = ("correct", reference, "")
    plain_answer, plain_reference = plain(answer), plain(reference)
    if plain_answer == plain_reference:
        return correct
    # Most answers are integers, which need no parser.
    if _INTEGER.fullmatch(plain_answer) and _INTEGER.fullmatch(plain_reference):
        if int(plain_answer) == int(plain_reference):
            return correct
        return "wrong", str(int(plain_answer)), ""
    reference_words = words(reference)
    if reference_words is not None and words(answer) == reference_words:
        return correct
    parsed_reference = _parse(plain_reference)
    if not parsed_reference:
        return "error", None, f"reference answer {reference[:60]!r} cannot be parsed"
    parsed = _parse(plain_answer)
    if parsed and verify(parsed_reference, parsed, timeout_seconds=None):
        return correct
    # The answer to a reference of 8% may be 0.08.
    if _PERCENT.search(reference) and not _PERCENT.search(answer) and parsed:
        fraction = _parse(f"\\frac{{{plain_reference}}}{{100}}")
        if fraction and verify(fraction, parsed, timeout_seconds=None):
            return correct
    expressions = [item for item in parsed if not isinstance(item, str)]
    if expressions:
        return "wrong", _canonical(expressions[0], answer), ""
    answer_words = words(answer)
    if answer_words:
        return "wrong", answer_words, ""
    return "unparseable", None, "math-verify finds no expression in the answer"


def make() -> Callable[[str, str], dict[str, Any]]:
    """Return the scorer of ``(text, reference)``.

    Its text is the answer, or the contents of several boxes, separated by a newline and a NUL. The
    last box counts, unless the reference is a list: then all of them may be the answer.
    """
    # math-verify warns that its time limit is off; the supervisor of this process keeps the limit.
    logging.disable()
    # Loads the modules that math-verify and sympy import lazily.
    verify_answer("\\frac{1}{2} + x", "x + 0.5")
    verify_answer("(1, \\infty)", "\\{1, 2\\}")

    def score(text: str, reference: str) -> dict[str, Any]:
        boxes = text.split("\n\x00")
        kind, answer, detail = verify_answer(boxes[-1], reference)
        if kind != "correct" and len(boxes) > 1 and is_list(plain(reference)):
            joined = verify_answer(",".join(boxes), reference)
            if joined[0] == "correct":
                kind, answer, detail = joined
        reward = float(kind == "correct")
        return {"kind": kind, "reward": reward, "answer": answer, "detail": detail}

    return score
