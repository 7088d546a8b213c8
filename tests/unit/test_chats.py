"""Chats in cells of data sets: turns of text are read, everything else is refused."""

import json
from pathlib import Path
from typing import Any

import pytest

from asym_lightning.types import ConfigError
from tests.support.cells import in_json, refusal

NAN = float("nan")
USER = {"role": "user", "content": "1+1?"}
CHATS = [
    ([{"role": "user", "content": [{"type": "text", "text": "1+1?"}]}], (("user", "1+1?"),)),
    (
        [{"role": "user", "content": [{"type": "text", "text": "1"}, {"text": "+1?"}, "!"]}],
        (("user", "1+1?!"),),
    ),
    ([{"role": "user", "content": {"type": "text", "text": "1+1?"}}], (("user", "1+1?"),)),
    ([{"role": "system", "content": None}, USER], (("user", "1+1?"),)),
    ([{"role": "system"}, USER], (("user", "1+1?"),)),
    ([{"role": "system", "content": NAN}, USER], (("user", "1+1?"),)),
    (
        [USER, {"role": "assistant", "content": None}, USER],
        (("user", "1+1?"), ("assistant", ""), ("user", "1+1?")),
    ),
    ([{"role": "user", "content": 1e16}], (("user", "10000000000000000"),)),
    ([{**USER, "tool_calls": None, "name": "me"}], (("user", "1+1?"),)),
    (json.dumps([USER]), (("user", "1+1?"),)),
    ('[{"name": null, "content": "1+1?", "role": "user"}]', (("user", "1+1?"),)),
    (f"  {[USER]!r}\n", (("user", "1+1?"),)),
    ('[{"role": "user", "content": "half \\ud800"}]', (("user", "half \ufffd"),)),
]


@pytest.mark.parametrize(("cell", "turns"), CHATS)
def test_a_chat_is_read_turn_by_turn(tmp_path: Path, cell: Any, turns: Any) -> None:
    problem = in_json(tmp_path, cell, "2").train[1]
    assert problem.chat == turns
    assert problem.text == "\n\n".join(content for _, content in turns if content)


@pytest.mark.parametrize(
    ("cell", "message"),
    [
        ([{"role": "user", "content": [{"type": "image"}]}], "turn 1 has a part .*'image'"),
        ([{"role": "user", "content": [{"type": "image_url", "image_url": {}}]}], "'image_url'"),
        ([{"role": "user", "content": [{"type": "text"}]}], "turn 1 has a part"),
        ([{"role": "user", "content": [["1"]]}], "turn 1 holds a list"),
        ([{"role": "user", "content": "?", "images": ["a.png"]}], "turn 1 has images"),
        ([USER, "1+1?"], "turn 2 is a str"),
        (["1+1?"], "holds a list, which is neither a text nor a chat"),
        ([{"from": "human", "value": "1+1?"}], "turn 1 has no role"),
        ('[{"from": "human", "value": "1+1?"}]', "turn 1 has no role"),
        ([{"role": None, "content": "1+1?"}], "turn 1 has no role"),
        ([{"role": "developer", "content": "?"}, USER], "roles developer, user"),
        ([{"role": "assistant", "tool_calls": [{"id": 1}]}, USER], "turn 1 has tool_calls"),
        ([USER, {"role": "tool", "content": "2"}, USER], "roles user, tool, user"),
        ('[{"role": "user", "content": "1+', "neither JSON nor a list of Python"),
        ('[{"content": "1+1", "role": "user"', "neither JSON nor a list of Python"),
        ("[{'role': 'user', 'content': 'a'}\n {'role': 'user', 'content': 'b'}]", "neither JSON"),
        (json.dumps({"messages": [USER]}), "an object as text; a chat is a list of turns"),
        (json.dumps(USER), "an object as text; a chat is a list of turns"),
        (json.dumps([{"content": [{"type": "image"}], "role": "user"}]), "a part of the type"),
        ({"messages": [USER]}, "holds an object.*such as problem_column=problem.messages"),
    ],
)
def test_a_chat_that_is_more_than_text_is_refused(tmp_path: Path, cell: Any, message: str) -> None:
    found = refusal(tmp_path, cell, "2")
    assert found.startswith("problem_column=problem: row 2 of ") and "column problem" in found
    with pytest.raises(ConfigError, match=message):
        in_json(tmp_path, cell, "2")


def test_a_chat_without_a_question_is_left_out(tmp_path: Path) -> None:
    for cell in ([{"role": "user", "content": None}], [{"role": "user", "content": []}], []):
        task = in_json(tmp_path, cell, "2")
        assert [problem.text for problem in task.train] == ["0?"]
        assert task.notes == (
            f"{tmp_path / 'odd.jsonl'}: 1 of 2 rows have no problem and are left out (row 2)",
        )


@pytest.mark.parametrize(
    "text",
    [
        '[{"a": 1}, {"b": 2}]',
        '[{"a": 1}] has how many keys?',
        "{'x'} or {'y'}?",
        "[{'\\d': 1}]",
        "[1, 2]",
        "[{",
        "{",
    ],
)
def test_a_text_that_is_not_a_chat_stays_a_text(tmp_path: Path, text: str) -> None:
    problem = in_json(tmp_path, text, "2").train[1]
    assert (problem.text, problem.chat) == (text, ())
