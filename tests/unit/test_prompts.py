"""From problems to prompts and from completions to texts: special tokens where they belong."""

from collections.abc import Sequence
from typing import Any

import pytest
from tokenizers.processors import TemplateProcessing

from asym_lightning.config.model import unstopped_turn
from asym_lightning.learner.embedded import byte_tokenizer
from asym_lightning.rollout.base import Sample, Sampling
from asym_lightning.rollout.groups import sample, verify
from asym_lightning.tasks.base import encode
from asym_lightning.tasks.prompts import PromptFormat
from asym_lightning.types import FieldError, Problem, Prompt
from asym_lightning.verify.composite import CompositeVerifier
from asym_lightning.verify.text import ExactMatch

PROBLEM = Problem("p1", "1+1?", "2")


def tokenizer(template: str | None = None, bos: bool = False, special: Sequence[str] = ()) -> Any:
    """A byte tokenizer with a chat template, BOS by its own post-processor, or special tokens."""
    made = byte_tokenizer()
    made.chat_template = template
    made.add_special_tokens({"additional_special_tokens": list(special)})
    if bos:
        made.add_special_tokens({"bos_token": "<s>"})
        made.backend_tokenizer.post_processor = TemplateProcessing(
            single="<s> $A", special_tokens=[("<s>", made.bos_token_id)]
        )
    return made


@pytest.mark.parametrize("template", ["{prompt}\n", "<s>{prompt}\n"])
def test_a_plain_prompt_begins_with_the_tokenizers_own_bos_once(template: str) -> None:
    base = tokenizer(bos=True)
    ids = PromptFormat(plain_template=template, instruction="").encode(PROBLEM, base)
    assert ids[0] == base.bos_token_id and ids.count(base.bos_token_id) == 1
    assert base.decode(ids[1:]) == "1+1?\n"


def test_no_bos_where_the_tokenizer_adds_none() -> None:
    plain = tokenizer()
    plain.add_special_tokens({"bos_token": "<s>"})
    assert plain.bos_token_id not in PromptFormat(instruction="").encode(PROBLEM, plain)


@pytest.mark.parametrize(
    ("template", "reason"),
    [
        ("{{ raise_exception('System role not supported') }}", "System role not supported"),
        ("{{ messages[7].content }}", "has no element 7"),
        ("{% if %}", "xpected"),
    ],
)
def test_a_template_that_refuses_a_chat_is_one_line(template: str, reason: str) -> None:
    with pytest.raises(FieldError, match=reason) as refused:
        PromptFormat(system="Be brief.").encode(PROBLEM, tokenizer(template))
    text = str(refused.value)
    assert text.startswith("chat_template=true: ") and "problem p1 (roles system, user)" in text
    assert "\n" not in text


class Task:
    """A task whose prompts end as the template of a thinking model does."""

    def encode(self, problem: Problem, tokenizer: Any) -> list[int]:
        text = f"<|user|>{problem.text}<|assistant|>\n<think>\n"
        return list(tokenizer.encode(text, add_special_tokens=False))


class Engine:
    """Returns the same tokens for every prompt."""

    def __init__(self, token_ids: list[int], truncated: bool = False):
        self.token_ids, self.truncated = token_ids, truncated

    def generate(self, prompts: Any, sampling: Sampling, seeds: Any) -> list[list[Sample]]:
        drawn = Sample(self.token_ids, [0.0] * len(self.token_ids), self.truncated, 0)
        return [[drawn] for _ in prompts]


@pytest.mark.parametrize("special", [(), ("<think>", "</think>")])
def test_tags_reach_the_verifier_even_as_special_tokens_or_from_the_prompt(
    special: tuple[str, ...],
) -> None:
    model = tokenizer(special=special)
    [prompt] = encode(Task(), [PROBLEM], model)  # type: ignore[arg-type]
    assert prompt.opening == "<think>\n"
    end = [model.eos_token_id]
    written = "1+1 is 2</think>\n<answer>\\boxed{2}</answer>"
    engine: Any = Engine(model.encode(written, add_special_tokens=False) + end)
    sampling = Sampling(1, 100, 1.0, (model.eos_token_id,))
    [[completion]] = sample(engine, model, [prompt], sampling=sampling, seeds=[0])
    assert completion.text == written
    weights = {"correctness": 1.0, "format": 1.0}
    verifier = CompositeVerifier(ExactMatch(), weights, format="think_answer")
    [group] = verify(verifier, [prompt], [[completion]])
    assert group.verdicts[0].reward == 2.0


def test_only_the_token_that_ended_a_completion_is_left_out() -> None:
    model = tokenizer()
    end, pad = model.eos_token_id, model.pad_token_id
    ids = [*model.encode("2"), pad, end]
    prompt = Prompt(PROBLEM, (1,))
    for stops, truncated, text in (
        ((end,), False, f"2{model.pad_token}"),
        ((end,), True, f"2{model.pad_token}{model.eos_token}"),
        ((end, pad), False, f"2{model.pad_token}"),
    ):
        engine: Any = Engine(ids, truncated)
        sampling = Sampling(1, 100, 1.0, stops)
        [[completion]] = sample(engine, model, [prompt], sampling=sampling, seeds=[0])
        assert completion.text == text


def test_an_end_of_turn_that_ends_no_completion_is_noted() -> None:
    template = "{% for m in messages %}<|{{ m.role }}|>{{ m.content }}<|stop|>\n{% endfor %}"
    model = tokenizer(template, special=["<|stop|>"])
    stop = model.convert_tokens_to_ids("<|stop|>")
    note = unstopped_turn(model, (model.eos_token_id,))
    assert note is not None and f"rollout.stop=[{stop}]" in note
    assert unstopped_turn(model, (model.eos_token_id, stop)) is None
    assert unstopped_turn(tokenizer(), (256,)) is None
