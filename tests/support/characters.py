"""A tokenizer of characters for tests of tasks."""

from typing import Any


class Characters:
    """The part of a tokenizer that a task uses: one id per character.

    Its chat template writes every turn as ``<role>content``, then ``<think BOOL>``.
    """

    def __init__(self, chat_template: str | None = None):
        self.chat_template = chat_template

    def encode(self, text: str, add_special_tokens: bool = True) -> list[int]:
        return [ord(char) for char in text]

    def decode(self, token_ids: list[int], skip_special_tokens: bool = False) -> str:
        return "".join(map(chr, token_ids))

    def apply_chat_template(
        self, messages: list[dict[str, str]], enable_thinking: bool, **options: Any
    ) -> list[int]:
        turns = "".join(f"<{turn['role']}>{turn['content']}" for turn in messages)
        return self.encode(f"{turns}<think {enable_thinking}>")


def characters(chat_template: str | None = None) -> Any:
    """A tokenizer of characters, typed as any tokenizer."""
    return Characters(chat_template)


def text(ids: list[int]) -> str:
    return "".join(map(chr, ids))
