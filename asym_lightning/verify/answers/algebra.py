"""Tokens of one expression to a sympy expression, by a grammar of our own.

Nothing is evaluated but what these functions build, and the size of every number is bounded. Two
numbers side by side are no product.
"""

from typing import Any

import sympy

from asym_lightning.verify.answers.arithmetic import (
    binomial,
    factorial,
    power,
    quotient,
    rational,
)
from asym_lightning.verify.answers.commands import (
    APPLIED,
    DECORATED,
    FUNCTIONS,
    GREEK,
    MANY,
    ONE_ARGUMENT,
    applied,
    computes_with_infinity,
)
from asym_lightning.verify.answers.forms import TooLarge
from asym_lightning.verify.answers.numbers import read_number
from asym_lightning.verify.answers.reader import Reader
from asym_lightning.verify.answers.tokens import ParseError, Token, Tokens

_MAX_DEPTH = 60
# An expression with more tokens, or more commands within commands, is not computed.
_MAX_TOKENS, _MAX_COMMANDS = 300, 20


class Algebra(Reader):
    """A reader of the tokens of one expression, from left to right."""

    def __init__(self, tokens: Tokens) -> None:
        super().__init__(tokens)
        # Brackets and bars that are open, and trigonometric functions around the place.
        self._depth, self._bars, self._angle, self._commands = 0, 0, 0, 0

    def read(self) -> Any:
        """Return the expression of all tokens. Raises ``ParseError`` or ``TooLarge``."""
        if len(self.tokens) > _MAX_TOKENS:
            raise TooLarge(f"an expression of more than {_MAX_TOKENS} signs")
        value = self._sum()
        if self.place < len(self.tokens):
            raise ParseError(f"{self.tokens[self.place].text!r} in the wrong place")
        if value.has(sympy.zoo, sympy.nan) or computes_with_infinity(self.tokens):
            raise ParseError("no finite value")
        return value

    def _sum(self) -> Any:
        self._depth += 1
        if self._depth > _MAX_DEPTH:
            raise ParseError("too many brackets within brackets")
        terms = [self._signed_product()]
        while self.at("+", "-"):
            negative = self.take().text == "-"
            term = self._signed_product()
            terms.append(-term if negative else term)
        self._depth -= 1
        return terms[0] if len(terms) == 1 else sympy.Add(*terms)

    def _signed_product(self) -> Any:
        negative, signs = False, 0
        while self.at("+", "-"):
            negative ^= self.take().text == "-"
            signs += 1
            if signs > 1:
                raise ParseError("signs in a row")
        value = self._product()
        return -value if negative else value

    def _product(self) -> Any:
        start = self.place
        value = self._factor()
        while True:
            if self.at("*"):
                self.place += 1
                value = value * self._signed_factor()
            elif self.at("/"):
                self.place += 1
                value = quotient(value, self._signed_factor())
            elif self._begins_factor():
                value = value * self._beside(start, value)
            else:
                return value
            start = -1

    def _signed_factor(self) -> Any:
        if self.at("-", "+"):
            return -self._factor() if self.take().text == "-" else self._factor()
        return self._factor()

    def _begins_factor(self) -> bool:
        token = self.peek()
        if token is None or token.kind == "word":
            return False
        if token.text == "|":
            return not self._bars
        if token.kind == "op":
            return token.text in "({["
        closes = ("\\}", "\\rangle", "\\rfloor", "\\rceil", "\\choose", "\\pm", "\\mp")
        return token.text not in closes

    def _beside(self, start: int, value: Any) -> Any:
        """Return the factor that stands beside ``value`` without a sign between them."""
        token = self.peek()
        assert token is not None
        if token.kind == "num":
            before, after = self.tokens[self.place - 1].text, self.peek(1)
            if before == ")" and value.free_symbols:
                return self._factor()  # (n - 2) 2^n
            if before == "!" and after is not None and after.text == "!":
                return self._factor()  # 3! 7!
            raise ParseError("two numbers side by side")
        if token.text == "\\frac" and self._ends_in_number():
            return self._mixed_part(start, value)
        # Braces cannot be seen: 2{3} is 23, as little a product as 2 (3).
        seen = token.text == "{" or (token.text in ("(", "[") and token.space)
        apart = seen and self._ends_in_number()
        factor = self._factor()
        if apart and factor.is_Rational:
            raise ParseError("two numbers side by side")
        return factor

    def _ends_in_number(self) -> bool:
        """Return whether what stands before the place ends in digits or a fraction of numbers."""
        before = self.tokens[self.place - 1]
        return before.kind == "num" or before.text in ("}", "!")

    def _mixed_part(self, start: int, value: Any) -> Any:
        """Return what a whole number is multiplied by to add the fraction behind it."""
        fraction = self._factor()
        if not fraction.is_Rational:
            return fraction
        before = self.tokens[start] if start >= 0 else None
        if before is None or before.kind != "num" or not value.is_Integer or not value:
            raise ParseError("two numbers side by side")
        if not 0 < fraction < 1:
            raise ParseError("a whole number beside a fraction that is not below 1")
        return 1 + fraction / value

    def _factor(self) -> Any:
        value = self._base()
        last = ""
        while True:
            if (self.at("!") and last) or (self.at("^", "**") and last == "power"):
                raise ParseError(f"a {last} and then a power or factorial without brackets")
            if self.at("^", "**"):
                self.place += 1
                last = "power"
                value = power(value, self._exponent())
            elif self.at("!"):
                self.place += 1
                last = "factorial"
                value = factorial(value)
            elif self.at("°") and self._angle:
                self.place += 1
                value = value * sympy.pi / 180
            elif self.at("%") and value.is_Rational:
                self.place += 1
                value = value / 100
            else:
                return value

    def _exponent(self) -> Any:
        if self.at("-", "+"):
            return -self._exponent() if self.take().text == "-" else self._exponent()
        return self._base()

    def _group(self, closing: str) -> Any:
        bars, self._bars = self._bars, 0
        value = self._sum()
        self.expect(closing)
        self._bars = bars
        return value

    def _argument(self) -> Any:
        """Return the argument of a command: a group in braces, or the next digit or letter."""
        token = self.peek()
        if token is not None and token.kind == "num" and len(token.text) > 1:
            self.tokens[self.place : self.place + 1] = [
                Token("num", token.text[0], token.space),
                Token("num", token.text[1:]),
            ]
        return self._base()

    def _base(self) -> Any:
        token = self.take()
        if token.kind == "num":
            return self._number(token)
        if token.kind == "let":
            return self._letter(token.text)
        if token.kind == "word":
            raise ParseError(f"the word {token.text!r}")
        if token.text in ("(", "{", "["):
            return self._group({"(": ")", "{": "}", "[": "]"}[token.text])
        if token.text == "|":
            self._bars += 1
            value = self._sum()
            self._bars -= 1
            self.expect("|")
            return sympy.Abs(value)
        if token.kind == "cmd":
            self._commands += 1
            if self._commands > _MAX_COMMANDS:
                raise TooLarge(f"more than {_MAX_COMMANDS} commands within commands")
            value = self._command(token.text)
            self._commands -= 1
            return value
        raise ParseError(f"{token.text!r} in the wrong place")

    def _number(self, token: Token) -> Any:
        number = read_number(token.text)
        if number is None:
            raise ParseError(f"{token.text!r} is not a number")
        if self.at("_") and "." not in token.text:
            self.place += 1
            base = self._base()
            if not base.is_Integer or not 2 <= base <= 36:
                raise ParseError("an index that is not a base")
            try:
                return sympy.Integer(int(token.text, int(base)))
            except ValueError:
                raise ParseError(f"{token.text} is no numeral of base {base}") from None
        return rational(number.value)

    def _letter(self, letter: str) -> Any:
        index = self.subscript()
        if not index and not self.at("'"):
            if letter == "e":
                return sympy.E
            if letter == "i":
                return sympy.I
        name = letter + index + self.primes()
        if letter in APPLIED and self.at("("):
            return sympy.Function(name)(*self._bracketed())
        return sympy.Symbol(name)

    def _command(self, name: str) -> Any:
        if name == "\\frac":
            top = self._argument()
            return quotient(top, self._argument())
        if name == "\\sqrt":
            return self._root()
        if name == "\\binom":
            upper = self._argument()
            return binomial(upper, self._argument())
        if name == "\\pi":
            return sympy.pi
        if name == "\\infty":
            return sympy.oo
        if name in FUNCTIONS:
            return self._function(name)
        if name in ("\\lfloor", "\\lceil"):
            value = self._group(name.replace("l", "r", 1))
            return sympy.floor(value) if name == "\\lfloor" else sympy.ceiling(value)
        if name in DECORATED:
            return sympy.Symbol(name[1:] + self.letters())
        if name in ("\\angle", "\\triangle"):
            return sympy.Symbol(name[1:] + self.letters())
        if name == "\\mathbb":
            return sympy.Symbol("bb" + self.letters())
        if name[1:] in GREEK:
            return sympy.Symbol(name[1:] + self.subscript() + self.primes())
        raise ParseError(f"the command {name}")

    def _root(self) -> Any:
        degree: Any = sympy.Integer(2)
        if self.at("["):
            self.place += 1
            degree = self._group("]")
        if not degree.is_Integer or not 2 <= degree <= 1000:
            raise ParseError("a root of that degree")
        base = self._base()
        if degree % 2 and base.is_negative:  # the real root
            return -power(-base, sympy.Rational(1, int(degree)))
        return power(base, sympy.Rational(1, int(degree)))

    def _function(self, name: str) -> Any:
        exponent, base = None, None
        for _ in range(2):
            if self.at("^"):
                self.place += 1
                exponent = self._exponent()
            elif self.at("_"):
                self.place += 1
                base = self._base()
        trigonometric = name in ONE_ARGUMENT and name not in ("\\ln", "\\log")
        self._angle += trigonometric
        arguments = self._arguments(name)
        self._angle -= trigonometric
        return applied(name, arguments, base, exponent=exponent)

    def _bracketed(self) -> list[Any]:
        """Return the arguments in round brackets, with commas between them."""
        self.expect("(")
        arguments = [self._sum()]
        while self.at(","):
            self.place += 1
            arguments.append(self._sum())
        self.expect(")")
        return arguments

    def _arguments(self, name: str) -> list[Any]:
        if self.at("("):
            return self._bracketed()
        if name in MANY:
            raise ParseError(f"{name} without brackets")
        if self.at("-"):
            self.place += 1
            return [-self._factor()]
        value = self._factor()
        while self._begins_factor() and not self.at(*FUNCTIONS, "(", "["):
            token = self.peek()
            assert token is not None
            if token.kind == "num":
                raise ParseError("two numbers side by side")
            value = value * self._factor()
        return [value]


def expression(tokens: Tokens) -> Any:
    """Return the sympy expression of the tokens. Raises ``ParseError`` or ``TooLarge``."""
    return Algebra(tokens).read()
