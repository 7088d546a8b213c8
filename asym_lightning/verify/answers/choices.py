"""The letter of a choice and the text behind it."""

import re

_SAID = r"(?:[Tt]he )?(?:[Cc]orrect )?(?:[Oo]ption|[Cc]hoice|[Aa]nswer)(?: is)?:?"
_CHOICE = re.compile(
    r"(?:\\text ?\{ ?)?\(([A-Ja-j])\) ?\}?(.*)"
    r"|(?:\\text ?\{ ?)?([A-J](?=[.:])|[A-Ja-j](?=\)))[).:](?: |\}|$)(.*)"
    rf"|(?:(?:\\text ?\{{ ?)?{_SAID} ?\}}?) ?\(?([A-J])\)?\}}?()"
    r"|\\text ?\{ ?([A-J]) ?\}()",
    re.DOTALL,
)
# Behind the letter of a choice: no text of that choice, but another answer.
_NOT_A_TEXT = re.compile(
    r"^(?:\\text ?\{ ?)?(?:or|and)\b|^(?:[,;&/=<>!+*]|\\(?:approx|pm|mp|in|cup|cap)(?![a-z]))"
    r"|\([A-Ja-j]\)|\b(?:or|and) [A-J]\b|[\s,;][A-J][:)]"
)
# Behind it nothing but letters of choices (I may be a numeral), or a remark that takes it back.
_NO_CHOICE = re.compile(
    r"(?:\\text ?\{ ?)?(?:(?:[A-HJ][\s.,:;&}]*)+"
    r"|(?:(?:is|are) )?(?:not|never|wrong|incorrect)[\s.!}]*(?:correct|right|true)?[\s.!}]*)"
)


def choice(text: str) -> tuple[str, str] | None:
    """Return the letter of a choice and the text behind it, or ``None`` for another answer."""
    match = _CHOICE.fullmatch(text)
    if match is None:
        return None
    letter, rest = next((match[i], match[i + 1]) for i in (1, 3, 5, 7) if match[i] is not None)
    behind = text[match.end(1) + 1 : match.end(1) + 2] if match[1] is not None else ""
    if behind not in ("", " ", "\\", "}"):  # (a)b is a product
        return None
    if match[1] is not None and rest.lstrip()[:1] in tuple("+-*/=^<>,("):
        return None
    rest = rest.strip().lstrip(".:").strip()
    if _NOT_A_TEXT.search(rest) or _NO_CHOICE.fullmatch(rest):
        return None
    return letter.upper(), rest
