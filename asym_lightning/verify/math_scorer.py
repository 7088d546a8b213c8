"""Comparison of mathematical answers by math-verify; runs in the jailed worker only.

Answers reach math-verify's LaTeX parser alone: its extractor of plain expressions would hand them to sympy's ``parse_expr``, which
runs code.
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
    """Text in which equal numbers are equal; other expressions as sympy prints them. The raw text where that fails."""
    import sympy

    try:
        if getattr(expression, "is_number", False):
            expression = sympy.nsimplify(expression.doit(), rational=True)
        return str(expression)
    except Exception:
        return text


@lru_cache(_CACHED)
def _parse(text: str) -> list[Any]:
    from math_verify import LatexExtractionConfig, parse

    return parse(f"\\boxed{{{text}}}", [LatexExtractionConfig(boxed_match_priority=0)], parsing_timeout=None)


def plain(text: str) -> str:
    """An answer without what only sets it: dollar and per cent signs, separators of thousands, "approximately", marks at the end."""
    for sign in (",\\!", "{,}", "\\$", "$", "\\!"):
        text = text.replace(sign, "")
    text = _PERCENT.sub("", text.strip().removeprefix("\\approx")).strip()
    return text if text.endswith(("\\.", "\\,")) else text.rstrip(".,").rstrip()


def words(text: str) -> str | None:
    """A text answer in plain lower case (``\\text{(C)}`` and ``C`` are ``c``), ``None`` for anything that is mathematics."""
    bare = _WORDS.sub(r"\1", text).replace("\\ ", " ").strip().rstrip(".").lower()
    if re.fullmatch(r"\(?[a-z]\)?", bare):
        return bare.strip("()")
    bare = " ".join(bare.split())
    return bare if _LETTERS.fullmatch(bare) and ("\\" in text or len(bare) > 3) else None


def is_list(text: str) -> bool:
    """Whether a reference has several parts: a comma outside all brackets, or ``\\pm``."""
    depth = 0
    for at, char in enumerate(text):
        depth += (char in "([{") - (char in ")]}")
        if char == "," and depth == 0 and not re.match(r",\d{3}(?!\d)", text[at:]):
            return True
    return "\\pm" in text


@lru_cache(_CACHED)
def verify_answer(answer: str, gold: str) -> tuple[str, str | None, str]:
    """Compare an answer with the reference: ``(kind, answer, detail)``."""
    from math_verify import verify

    if plain(answer) == plain(gold):
        return "correct", gold, ""
    if _INTEGER.fullmatch(plain(answer)) and _INTEGER.fullmatch(plain(gold)):  # most answers; nothing to compute
        return ("correct", gold, "") if int(plain(answer)) == int(plain(gold)) else ("wrong", str(int(plain(answer))), "")
    named = words(gold)
    if named is not None and words(answer) == named:
        return "correct", gold, ""
    reference = _parse(plain(gold))
    if not reference:
        return "error", None, f"reference answer {gold[:60]!r} cannot be parsed"
    parsed = _parse(plain(answer))
    if parsed and verify(reference, parsed, timeout_seconds=None):
        return "correct", gold, ""
    if _PERCENT.search(gold) and not _PERCENT.search(answer) and parsed:  # 0.08 for 8%
        share = _parse(f"\\frac{{{plain(gold)}}}{{100}}")
        if share and verify(share, parsed, timeout_seconds=None):
            return "correct", gold, ""
    expressions = [item for item in parsed if not isinstance(item, str)]
    if not expressions:
        said = words(answer)
        return ("wrong", said, "") if said else ("unparseable", None, "math-verify finds no expression in the answer")
    return "wrong", _canonical(expressions[0], answer), ""


def make() -> Callable[[str, str], dict[str, Any]]:
    """The scorer. Its text is the answer, or several boxes one under the other, of which the last counts unless the reference is a list."""
    logging.disable()  # math-verify warns that the time limit is left to others: it is
    verify_answer("\\frac{1}{2} + x", "x + 0.5")  # loads what math-verify and sympy load lazily
    verify_answer("(1, \\infty)", "\\{1, 2\\}")

    def score(text: str, gold: str) -> dict[str, Any]:
        boxes = text.split("\n\x00")
        kind, answer, detail = verify_answer(boxes[-1], gold)
        if kind != "correct" and len(boxes) > 1 and is_list(plain(gold)):
            joined = verify_answer(",".join(boxes), gold)
            kind, answer, detail = joined if joined[0] == "correct" else (kind, answer, detail)
        return {"kind": kind, "reward": float(kind == "correct"), "answer": answer, "detail": detail}

    return score
