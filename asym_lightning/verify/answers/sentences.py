"""Answers in words: times, dates, "no solution", and words that only set an answer."""

import re

from asym_lightning.verify.answers import forms as f
from asym_lightning.verify.answers.tokens import Token
from asym_lightning.verify.answers.units import ALTERING, FILLER, SCALES, singular

_CLOCK = re.compile(
    r"(\d{1,2}):(\d{2})(?: ?(?:\\text ?\{)? ?([aApP])\.? ?[mM]\.? ?\}?)?|"
    r"(\d{1,2}) ?(?:\\text ?\{)? ?([aApP])\.? ?[mM]\.? ?\}?"
)
_MONTH_NAMES = (
    "january february march april may june july august september october november december"
)
_MONTHS = frozenset(_MONTH_NAMES.split())
_DATE = re.compile(r"\d{1,4}([/-])\d{1,2}\1\d{1,4}")
_NO_SOLUTION = re.compile(
    r"(?:there (?:is|are) )?(?:no|null)(?: (?:real|such|possible|valid|integer))?"
    r" (?:solutions?|values?|set|roots?|numbers?|x)(?: exists?)?|(?:the )?empty(?: set)?"
    r"|none(?: exist)?"
)
_REALS = re.compile(r"(?:all|any|every) (?:real (?:numbers?|values?)|reals)(?: x)?")


def reads_as_words(text: str) -> str | None:
    """Return the text in lower case if it is plain words and numbers of a sentence or a date."""
    plain = re.sub(r"\\text ?\{([^{}]*)\}", r" \1 ", text)
    plain = re.sub(r"\b(an?)(\.m)\.?", r"\1\2", plain)
    if "\\" in plain or not re.search(r"[A-Za-z]", plain) or re.search(r"[{}^_=<>|*+]", plain):
        return None
    plain = re.sub(r"(?<=[a-z])-(?=[a-z])|[\"!?;]|\.(?!\d)", "", plain.lower())
    words = re.sub(r",(?!\d)", " ", plain).split()
    # A date is the same with the day before the month.
    return " ".join(sorted(words) if _MONTHS & set(words) else words)


def clock(text: str) -> f.Clock | None:
    match = _CLOCK.fullmatch(re.sub(r"^\\text ?\{ ?([^{}]*?) ?\}$", r"\1", text))
    if match is None:
        return None
    hour, minute = int(match[1] or match[4]), int(match[2] or 0)
    half = f"{(match[3] or match[5]).lower()}m" if match[3] or match[5] else ""
    if hour > (12 if half else 24) or minute > 59 or (half and not hour):
        return None
    return f.Clock(hour, minute, half)


def is_date(text: str) -> bool:
    """Return whether a text is a date in digits, such as 3/14/2020."""
    return _DATE.fullmatch(text) is not None


def means_empty(words: str) -> bool:
    """Return whether words say that there is no solution."""
    return _NO_SOLUTION.fullmatch(words) is not None


def means_reals(words: str) -> bool:
    """Return whether words name all real numbers."""
    return _REALS.fullmatch(words) is not None


def without_sentence(tokens: list[Token]) -> list[Token]:
    """Return the tokens without words that mean nothing before and behind the answer."""
    start = 0
    while start < len(tokens) and tokens[start].kind == "word":
        if tokens[start].text.lower() not in FILLER or tokens[start].text == "A":
            break
        start += 1
    if start == len(tokens):
        return tokens
    tokens = tokens[start:]
    if start and len(tokens) > 1 and tokens[0].text in ("=", ":"):
        tokens = tokens[1:]
    if any(token.kind != "word" for token in tokens):
        tokens = [
            Token("op", "=") if t.kind == "word" and t.text in ("is", "equals") else t
            for t in tokens
        ]
    while tokens and tokens[-1].kind == "op" and tokens[-1].text in ".,;:" and len(tokens) > 1:
        tokens = tokens[:-1]
    return without_remark(tokens)


def without_remark(tokens: list[Token]) -> list[Token]:
    """Return the tokens without words in brackets at the end, e.g. ``5 (exactly)``."""
    if len(tokens) > 3 and tokens[-1].text == ")":
        at = len(tokens) - 2
        while at > 0 and tokens[at].kind == "word" and len(tokens[at].text) > 1:
            at -= 1
        words = {singular(token.text) for token in tokens[at:]} | {
            t.text.lower() for t in tokens[at:]
        }
        if words & (ALTERING | SCALES.keys()):
            return tokens
        if 0 < at < len(tokens) - 2 and tokens[at].text == "(":
            return tokens[:at]
    return tokens
