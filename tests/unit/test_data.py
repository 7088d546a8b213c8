"""Problems from data sets: columns, chats, prompts, and data sets of the hub."""

import json
from pathlib import Path
from typing import Any

import datasets
import pytest

from asym_lightning.tasks.math import MathTask
from asym_lightning.tasks.prompts import PromptFormat
from asym_lightning.types import ConfigError, Problem
from tests.support.characters import characters, text

CHAT = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "2+2?"}]


def write(path: Path, rows: list[dict[str, Any]]) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def test_answers_in_every_form(tmp_path: Path) -> None:
    rows = [
        {"question": "a?", "answer": "1 + 1 = <<1+1=2>>2\n#### $1,250$"},
        {"question": "b?", "answer": "a #### b\n#### -3"},
        {"question": "c?", "answer": "no mark"},
    ]
    path = write(tmp_path / "g.jsonl", rows)
    task = MathTask(path, problem_column="question", answer_after="####")
    assert [p.answer for p in task.train] == ["1,250", "-3"]
    assert "1 of 3 rows have no answer" in task.notes[0]
    lists = [
        {"problem": "$x$", "answer": ["$69$", "$84$"]},
        {"question": "y", "problem": "z", "final_answer": ["$(1,2), (3,4)$"]},
    ]
    columns: dict[str, Any] = {
        "problem_column": ["question", "problem"],
        "answer_column": ["final_answer", "answer"],
    }
    task = MathTask(write(tmp_path / "o.jsonl", lists), **columns)
    # A problem keeps its dollars.
    assert [(p.text, p.answer) for p in task.train] == [("$x$", "69, 84"), ("y", "(1,2), (3,4)")]


def test_rows_as_verl_has_them_keep_their_chat(tmp_path: Path) -> None:
    row = {
        "data_source": "here",
        "prompt": CHAT,
        "ability": "math",
        "reward_model": {"ground_truth": "4"},
        "extra_info": {"index": 0},
    }
    columns = {"problem_column": "prompt", "answer_column": "reward_model.ground_truth"}
    task = MathTask(write(tmp_path / "v.jsonl", [row]), instruction="", **columns)
    chat = (("system", "Be brief."), ("user", "2+2?"))
    assert task.train == [Problem("v/1", "Be brief.\n\n2+2?", "4", chat=chat)]
    prompt = text(task.encode(task.train[0], characters("yes")))
    assert prompt == "<system>Be brief.<user>2+2?<think False>"
    row["prompt"] = [{"role": "user", "content": "?"}, {"role": "assistant", "content": "!"}]
    chat_of = "has a chat of the roles user, assistant.*the last one user"
    message = rf"^problem_column=prompt: row 1 of .* {chat_of}"
    with pytest.raises(ConfigError, match=message):
        MathTask(write(tmp_path / "w.jsonl", [row]), **columns)


def test_prompts_with_and_without_a_chat_template() -> None:
    problem = Problem("p", "1+1?", "2")
    form = PromptFormat(
        "Box it.", system="You count.", enable_thinking=True, plain_template="Q: {prompt}\nA:"
    )
    chat = text(form.encode(problem, characters("yes")))
    assert chat == "<system>You count.<user>1+1?\nBox it.<think True>"
    plain = text(form.encode(problem, characters()))
    assert plain == "Q: You count.\n\n1+1?\nBox it.\nA:"
    assert text(PromptFormat("").encode(problem, characters())) == "1+1?\n"
    with pytest.raises(ConfigError, match=r"^plain_template=Q:: must be text with \{prompt\}"):
        PromptFormat(plain_template="Q:")


def a_data_set(folder: Path) -> Path:
    """A folder like a data set of the hub; README.md lists the splits of the config ``sums``."""
    for part, answer in (("train", "1"), ("test", "2")):
        (folder / "sums").mkdir(parents=True, exist_ok=True)
        write(folder / "sums" / f"{part}.jsonl", [{"problem": "?", "answer": answer}])
    (folder / "README.md").write_text(
        "---\n"
        "configs:\n"
        "- config_name: sums\n"
        "  data_files:\n"
        "  - {split: train, path: sums/train.jsonl}\n"
        "  - {split: test, path: sums/test.jsonl}\n"
        "---\n"
    )
    return folder


def test_a_data_set_is_loaded_as_from_the_hub(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    folder = a_data_set(tmp_path / "set")
    task = MathTask(str(folder), subset="sums", heldout_path=str(folder))
    assert [p.answer for p in task.train] == ["1"] and [p.answer for p in task.heldout] == ["2"]
    message = r"^path=.*set cannot be read: ValueError: .*nothing"
    with pytest.raises(ConfigError, match=message):
        MathTask(str(folder), subset="nothing")


def test_a_hub_data_set_comes_from_the_cache_where_there_is_no_network(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    MathTask(str(a_data_set(tmp_path / "set")), subset="sums")
    # The cache keeps a data set of the hub under this name.
    (tmp_path / "cache" / "set").rename(tmp_path / "cache" / "owner___set")
    task = MathTask("owner/set", subset="sums", heldout_path="owner/set")
    assert [p.answer for p in task.train] == ["1"] and [p.answer for p in task.heldout] == ["2"]
    for other, why in (
        ({"split": "dev"}, 'Unknown split "dev"'),
        ({"subset": "large"}, "config 'large'"),
    ):
        message = rf"^path=owner/set cannot be read: ValueError: .*{why}"
        with pytest.raises(ConfigError, match=message):
            MathTask("owner/set", **{"subset": "sums", **other})
    offline = "HF_HUB_OFFLINE is set, and the cache .* has no copy"
    message = rf"^path=owner/none cannot be read: .*{offline}.*$"
    with pytest.raises(ConfigError, match=message):
        MathTask("owner/none")
