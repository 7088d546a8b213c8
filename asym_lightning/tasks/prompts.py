"""The way from a problem to the tokens of its prompt."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import Field
from transformers import PreTrainedTokenizerBase

from asym_lightning.checks import validated
from asym_lightning.types import FieldError, Problem

INSTRUCTION = "Please reason step by step, and put your final answer within \\boxed{}."
# At the end of a prompt; <|...|> are marks of turns.
_OPEN_TAG = re.compile(r"<[a-zA-Z]\w*>\s*$")
PlainTemplate = Annotated[
    str, Field(pattern=r"\{prompt\}", description="text with {prompt} where the problem goes")
]


@validated
@dataclass(frozen=True)
class PromptFormat:
    """The format of a prompt: the problem, a new line and ``instruction``.

    An empty ``instruction`` is left out with its new line. A ``system`` prompt, if set, comes
    first.

    The prompt goes through the tokenizer's chat template if it has one and ``chat_template`` is
    true (``enable_thinking`` is passed to it), else into ``plain_template`` at ``{prompt}``; then
    it begins with the BOS token, once, if the tokenizer itself would put it there. Raises
    ``FieldError`` for a plain template without that place.
    """

    instruction: str = INSTRUCTION
    system: str | None = None
    chat_template: bool = True
    enable_thinking: bool = False
    plain_template: PlainTemplate = "{prompt}\n"

    def messages(self, problem: Problem) -> list[dict[str, str]]:
        """Return the prompt as a chat; a problem that is a chat already keeps its turns."""
        turns = list(problem.chat) or [("user", problem.text)]
        if self.instruction:
            turns[-1] = ("user", f"{turns[-1][1]}\n{self.instruction}")
        if self.system and turns[0][0] != "system":
            turns.insert(0, ("system", self.system))
        return [{"role": role, "content": content} for role, content in turns]

    def encode(self, problem: Problem, tokenizer: PreTrainedTokenizerBase) -> list[int]:
        """Return the token ids of the prompt.

        Raises:
            FieldError: the tokenizer's chat template refuses the chat, or is broken.
        """
        messages = self.messages(problem)
        if not (self.chat_template and tokenizer.chat_template):
            prompt = "\n\n".join(turn["content"] for turn in messages)
            text = self.plain_template.replace("{prompt}", prompt)
            ids = list(tokenizer.encode(text, add_special_tokens=False))
            bos = own_bos(tokenizer)
            return ids if bos is None or ids[:1] == [bos] else [bos, *ids]
        try:
            templated: Any = tokenizer.apply_chat_template(
                messages,
                add_generation_prompt=True,
                tokenize=True,
                return_dict=False,
                enable_thinking=self.enable_thinking,
            )
        # Templates are programs: they raise errors of jinja2's and of Python's classes.
        except Exception as error:
            roles = ", ".join(turn["role"] for turn in messages)
            reason = " ".join(str(error).split())[:200] or type(error).__name__
            raise FieldError(
                f"chat_template=true: the tokenizer's template refuses the prompt of problem "
                f"{problem.id} (roles {roles}): {reason}; change task.system or the roles of the "
                "data, or take chat_template=false"
            ) from None
        return list(templated)


def own_bos(tokenizer: PreTrainedTokenizerBase) -> int | None:
    """The BOS token if the tokenizer puts it before a text by itself, else None."""
    bos: Any = getattr(tokenizer, "bos_token_id", None)
    if bos is None:
        return None
    begins = tokenizer.encode("1", add_special_tokens=True)[:1]
    return bos if begins == [bos] else None


def opening(token_ids: Sequence[int], tokenizer: PreTrainedTokenizerBase) -> str:
    """The tag that a prompt opens for the completion, such as ``<think>\n``; "" without one.

    Templates of some models end with it. It counts as the beginning of the completion's text.
    """
    end = tokenizer.decode(list(token_ids[-8:]), skip_special_tokens=False)
    tag = _OPEN_TAG.search(str(end))
    return tag[0] if tag else ""
