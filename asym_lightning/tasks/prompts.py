"""The way from a problem to the tokens of its prompt."""

from dataclasses import dataclass
from typing import Annotated

from pydantic import Field
from transformers import PreTrainedTokenizerBase

from asym_lightning.checks import validated
from asym_lightning.types import Problem

INSTRUCTION = "Please reason step by step, and put your final answer within \\boxed{}."
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
    true (``enable_thinking`` is passed to it), else into ``plain_template`` at ``{prompt}``,
    without special tokens. Raises ``FieldError`` for a plain template without that place.
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
        """Return the token ids of the prompt."""
        messages = self.messages(problem)
        if not (self.chat_template and tokenizer.chat_template):
            prompt = "\n\n".join(turn["content"] for turn in messages)
            text = self.plain_template.replace("{prompt}", prompt)
            return list(tokenizer.encode(text, add_special_tokens=False))
        ids = tokenizer.apply_chat_template(
            messages,
            add_generation_prompt=True,
            tokenize=True,
            return_dict=False,
            enable_thinking=self.enable_thinking,
        )
        return list(ids)  # type: ignore[arg-type]
