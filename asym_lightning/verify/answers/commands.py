"""Commands and letters with a meaning in algebra."""

from collections.abc import Callable
from typing import Any

import sympy

from asym_lightning.verify.answers.arithmetic import power, whole_logarithm
from asym_lightning.verify.answers.tokens import ParseError, Tokens

_LETTERS = (
    "alpha beta gamma delta epsilon zeta eta theta kappa lambda mu nu xi rho sigma tau phi chi psi"
    " omega Gamma Delta Theta Lambda Xi Sigma Phi Psi Omega ell mho Pi hbar"
)
GREEK = frozenset(_LETTERS.split())
DECORATED = {"\\vec", "\\overline", "\\hat", "\\overrightarrow", "\\bar", "\\tilde", "\\widehat"}
ONE_ARGUMENT: dict[str, Callable[..., Any]] = {
    "\\sin": sympy.sin, "\\cos": sympy.cos, "\\tan": sympy.tan, "\\cot": sympy.cot,
    "\\sec": sympy.sec, "\\csc": sympy.csc, "\\arcsin": sympy.asin, "\\arccos": sympy.acos,
    "\\arctan": sympy.atan, "\\sinh": sympy.sinh, "\\cosh": sympy.cosh, "\\tanh": sympy.tanh,
    "\\ln": sympy.log, "\\log": sympy.log,
}  # fmt: skip
INVERSE = {"\\sin": sympy.asin, "\\cos": sympy.acos, "\\tan": sympy.atan}
MANY = {"\\gcd": sympy.gcd, "\\lcm": sympy.lcm, "\\max": sympy.Max, "\\min": sympy.Min}
FUNCTIONS = {*ONE_ARGUMENT, *MANY, "\\exp", "\\lg"}
APPLIED = frozenset("fghFGPQ")


def applied(name: str, arguments: list[Any], base: Any, exponent: Any) -> Any:
    """Return the value of a function; base and exponent stand behind its name, or are ``None``."""
    function = ONE_ARGUMENT.get(name)
    if name in MANY:
        value = MANY[name](*arguments) if len(arguments) > 1 else None
    elif len(arguments) != 1:
        value = None
    elif name == "\\exp":
        value = sympy.exp(arguments[0])
    elif name == "\\lg" or (name == "\\log" and base is not None):
        value = sympy.log(arguments[0]) / sympy.log(10 if base is None else base)
        value = whole_logarithm(arguments[0], 10 if base is None else base) or value
    elif exponent == -1 and name in INVERSE:
        return INVERSE[name](*arguments)
    else:
        value = function(*arguments) if function is not None else None
    if value is None:
        raise ParseError(f"{name} of these arguments")
    return value if exponent is None else power(value, exponent)


def computes_with_infinity(tokens: Tokens) -> bool:
    """Return whether an infinity is more than the value itself, with a sign or without."""
    meant = [token.text for token in tokens if token.text not in "{}()+-"]
    return "\\infty" in meant and len(meant) > 1
