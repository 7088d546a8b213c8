"""Walk over tokens from left to right, with names and their indices."""

from asym_lightning.verify.answers.tokens import ParseError, Token, Tokens


class Reader:
    """Tokens and the place of the next one."""

    def __init__(self, tokens: Tokens) -> None:
        self.tokens, self.place = list(tokens), 0

    def peek(self, offset: int = 0) -> Token | None:
        at = self.place + offset
        return self.tokens[at] if at < len(self.tokens) else None

    def at(self, *texts: str) -> bool:
        token = self.peek()
        return token is not None and token.kind != "word" and token.text in texts

    def take(self) -> Token:
        token = self.peek()
        if token is None:
            raise ParseError("the end of the text where a number should be")
        self.place += 1
        return token

    def expect(self, text: str) -> None:
        if not self.at(text):
            raise ParseError(f"{text} is missing")
        self.place += 1

    def subscript(self) -> str:
        """Return the index of a name as text."""
        if not self.at("_"):
            return ""
        self.place += 1
        token = self.take()
        if token.text != "{":
            return f"_{token.text}"
        parts = []
        while not self.at("}"):
            token = self.take()
            if token.text == "{":
                raise ParseError("an index within an index")
            parts.append(token.text)
        self.place += 1
        return "_" + "".join(parts)

    def primes(self) -> str:
        primes = ""
        while self.at("'"):
            self.place += 1
            primes += "'"
        return primes

    def letters(self) -> str:
        """Return the letters of a name such as the one of an angle or a vector."""
        braces = self.at("{")
        self.place += braces
        letters = ""
        while (token := self.peek()) is not None and token.kind == "let":
            self.place += 1
            letters += token.text + self.subscript()
        if braces:
            self.expect("}")
        if not letters:
            raise ParseError("a name without letters")
        return f"({letters})"
