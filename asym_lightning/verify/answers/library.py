"""Sums, products, integrals and limits, as math-verify's parser of LaTeX reads them."""

import re
from typing import Any

import sympy

_COMMANDS = ("\\sum", "\\int", "\\prod", "\\lim")


def by_library(text: str) -> Any:
    """Return a sum, product, integral or limit as math-verify's parser reads it, or ``None``."""
    if not any(command in text for command in _COMMANDS):
        return None
    if re.search(r"\d\s+\d|(?<!\\)[a-z]{4,}", text):
        return None
    from math_verify import LatexExtractionConfig
    from math_verify import parse as read

    config = [LatexExtractionConfig(boxed_match_priority=0)]
    for found in read(f"\\boxed{{{text}}}", config, parsing_timeout=None):
        if isinstance(found, sympy.Expr):
            return found.doit()
    return None
