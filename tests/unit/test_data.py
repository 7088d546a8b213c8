"""Data from anywhere: columns, chats, mixtures, reasoning-gym, prompts; what is too long, double or shared."""

import json
from collections import Counter
from pathlib import Path
from typing import Any

import datasets
import pytest

from asym_lightning.tasks.countdown import PairsCountdown
from asym_lightning.tasks.math import MathTask
from asym_lightning.tasks.mixture import Mixture
from asym_lightning.tasks.overlap import duplicates, overlaps, passages
from asym_lightning.tasks.prepare import DataSettings, Prepared, prepare
from asym_lightning.tasks.prompts import PromptFormat
from asym_lightning.types import ConfigError, Kind, Problem
from tests.support.coin import Parity

CHAT = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "2+2?"}]


class Characters:
    """As much of a tokenizer as a task uses: one id per character; its chat template writes every turn down."""

    def __init__(self, chat_template: str | None = None):
        self.chat_template = chat_template

    def encode(self, text: str, add_special_tokens: bool = True) -> list[int]:
        return [ord(char) for char in text]

    def apply_chat_template(self, messages: list[dict[str, str]], enable_thinking: bool, **options: Any) -> list[int]:
        return self.encode("".join(f"<{turn['role']}>{turn['content']}" for turn in messages) + f"<think {enable_thinking}>")


def write(path: Path, rows: list[dict[str, Any]]) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def text(ids: list[int]) -> str:
    return "".join(map(chr, ids))


def test_answers_in_every_form(tmp_path: Path) -> None:
    rows = [
        {"question": "a?", "answer": "1 + 1 = <<1+1=2>>2\n#### $1,250$"},
        {"question": "b?", "answer": "a #### b\n#### -3"},
        {"question": "c?", "answer": "no mark"},
    ]
    task = MathTask(write(tmp_path / "g.jsonl", rows), problem_column="question", answer_after="####")
    assert [p.answer for p in task.train] == ["1,250", "-3"] and "1 of 3 rows have no answer" in task.notes[0]
    lists = [{"problem": "$x$", "answer": ["$69$", "$84$"]}, {"question": "y", "problem": "z", "final_answer": ["$(1,2), (3,4)$"]}]
    columns: dict[str, Any] = {"problem_column": ["question", "problem"], "answer_column": ["final_answer", "answer"]}
    task = MathTask(write(tmp_path / "o.jsonl", lists), **columns)
    assert [(p.text, p.answer) for p in task.train] == [("$x$", "69, 84"), ("y", "(1,2), (3,4)")], "a problem keeps its dollars"


def test_rows_as_verl_has_them_keep_their_chat(tmp_path: Path) -> None:
    row = {"data_source": "here", "prompt": CHAT, "ability": "math", "reward_model": {"ground_truth": "4"}, "extra_info": {"index": 0}}
    columns = {"problem_column": "prompt", "answer_column": "reward_model.ground_truth"}
    task = MathTask(write(tmp_path / "v.jsonl", [row]), instruction="", **columns)
    assert task.train == [Problem("v/1", "Be brief.\n\n2+2?", "4", (("system", "Be brief."), ("user", "2+2?")))]
    assert text(task.encode(task.train[0], Characters("yes"))) == "<system>Be brief.<user>2+2?<think False>"  # type: ignore[arg-type]
    row["prompt"] = [{"role": "user", "content": "?"}, {"role": "assistant", "content": "!"}]
    with pytest.raises(ConfigError, match=r"row 1 of .* has a chat of the roles user, assistant.*the last one user"):
        MathTask(write(tmp_path / "w.jsonl", [row]), **columns)


def test_prompts_with_and_without_a_chat_template() -> None:
    problem = Problem("p", "1+1?", "2")
    form = PromptFormat("Box it.", system="You count.", enable_thinking=True, plain_template="Q: {prompt}\nA:")
    assert text(form.encode(problem, Characters("yes"))) == "<system>You count.<user>1+1?\nBox it.<think True>"  # type: ignore[arg-type]
    assert text(form.encode(problem, Characters())) == "Q: You count.\n\n1+1?\nBox it.\nA:"  # type: ignore[arg-type]
    assert text(PromptFormat("").encode(problem, Characters())) == "1+1?\n"  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match=r"task\.plain_template='Q:' has no place"):
        PromptFormat(plain_template="Q:")


def a_data_set(folder: Path) -> Path:
    """A folder as it is on the hub: files, and a README.md that says which are which split of the configuration ``sums``."""
    for part, answer in (("train", "1"), ("test", "2")):
        (folder / "sums").mkdir(parents=True, exist_ok=True)
        write(folder / "sums" / f"{part}.jsonl", [{"problem": "?", "answer": answer}])
    (folder / "README.md").write_text(
        "---\nconfigs:\n- config_name: sums\n  data_files:\n"
        "  - {split: train, path: sums/train.jsonl}\n  - {split: test, path: sums/test.jsonl}\n---\n"
    )
    return folder


def test_a_data_set_is_loaded_as_from_the_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    folder = a_data_set(tmp_path / "set")
    task = MathTask(str(folder), subset="sums", heldout_path=str(folder))
    assert [p.answer for p in task.train] == ["1"] and [p.answer for p in task.heldout] == ["2"]
    with pytest.raises(ConfigError, match=r"task\.path=.*set cannot be read: ValueError: .*nothing"):
        MathTask(str(folder), subset="nothing")


def test_a_hub_data_set_comes_from_the_cache_where_there_is_no_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    MathTask(str(a_data_set(tmp_path / "set")), subset="sums")
    (tmp_path / "cache" / "set").rename(tmp_path / "cache" / "owner___set")  # where a set of the hub is kept
    task = MathTask("owner/set", subset="sums", heldout_path="owner/set")
    assert [p.answer for p in task.train] == ["1"] and [p.answer for p in task.heldout] == ["2"]
    for other, why in (({"split": "dev"}, 'Unknown split "dev"'), ({"subset": "large"}, "config 'large'")):
        with pytest.raises(ConfigError, match=rf"task\.path=owner/set cannot be read: ValueError: .*{why}"):
            MathTask("owner/set", **{"subset": "sums", **other})
    with pytest.raises(
        ConfigError, match=r"^task\.path=owner/none cannot be read: .*HF_HUB_OFFLINE is set, and the cache .* has no copy.*$"
    ):
        MathTask("owner/none")


# ---- mixtures ----


def test_a_mixture_has_its_weights_and_each_source_its_verifier(tmp_path: Path) -> None:
    sources = {"parity": Parity(), "pairs": PairsCountdown(train_size=6, heldout_size=4)}
    task = Mixture(sources, {"parity": 1, "pairs": 0.5})
    counts = Counter(problem.id.split(":")[0] for problem in task.train)
    assert counts == {"parity": 48, "pairs": 24} and len({p.id for p in task.train}) == 48 + 6
    assert len(task.heldout) == 16 + 4 and "parity 48 (48 different), pairs 24 (6 different)" in task.notes[-1]
    assert Counter(problem.id.split(":")[0] for problem in task.heldout[:5]) == {"parity": 4, "pairs": 1}
    pair = next(p for p in task.train if p.id.startswith("pairs"))
    assert text(task.encode(pair, Characters())) == pair.text  # type: ignore[arg-type]
    right = PairsCountdown.solutions(Problem("", "", pair.answer.removeprefix("pairs:")))[0]
    verdicts = task.verifier().score(["\x02", right, "\x01", "1"], ["parity:even", pair.answer] * 2, [False] * 4)
    assert [v.kind for v in verdicts] == [Kind.CORRECT, Kind.CORRECT, Kind.WRONG, Kind.UNPARSEABLE]
    for bad in ({"nobody": 1}, {"parity": 0}, {"parity": "x"}):
        with pytest.raises(ConfigError, match=r"task\.weights\.\w+=.*above 0 for one of parity, pairs"):
            Mixture(sources, bad)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match=r"task\.sources is empty"):
        Mixture({})


def test_reasoning_gym_by_name_weight_and_level() -> None:
    pytest.importorskip("reasoning_gym", reason="needs the package reasoning-gym")
    from asym_lightning.tasks.reasoning_gym import ReasoningGymTask

    hard = {"chain_sum": {"weight": 2, "level": 1, "min_terms": 5, "max_terms": 5}, "basic_arithmetic": 1}
    task = ReasoningGymTask(hard, train_size=90, heldout_size=30)
    assert Counter(p.id.split("/")[0] for p in task.train) == {"chain_sum": 60, "basic_arithmetic": 30}
    assert not {p.text for p in task.train} & {p.text for p in task.heldout}
    assert task.train == ReasoningGymTask(hard, train_size=90, heldout_size=30).train
    assert task.train != ReasoningGymTask(hard, train_size=90, heldout_size=30, seed=1).train
    reference = json.loads(next(p.answer for p in task.train if p.id.startswith("chain_sum")))
    assert reference["dataset"] == "chain_sum" and reference["entry"]["metadata"]["num_terms"] == 5
    for bad, message in (
        ({"chain_sun": 1}, r"chain_sun: reasoning-gym has no such data set; near: chain_sum"),
        ({"chain_sum": {"terms": 3}}, r"chain_sum\.terms: no such setting; it has weight, level, .*min_terms"),
        ({"chain_sum": {"min_terms": 9, "max_terms": 3}}, r"chain_sum: max_terms must be >= min_terms"),
        ({"chain_sum": -1}, r"weight -1 must be a number above 0"),
        ({}, r"task\.datasets is empty"),
    ):
        with pytest.raises(ConfigError, match=message):
            ReasoningGymTask(bad)  # type: ignore[arg-type]


def test_answers_of_reasoning_gym_are_right_by_its_own_scorer() -> None:
    pytest.importorskip("reasoning_gym", reason="needs the package reasoning-gym")
    from asym_lightning.tasks.reasoning_gym import ReasoningGymTask

    task = ReasoningGymTask({"chain_sum": 1}, train_size=4, heldout_size=1)
    try:
        verifier = task.verifier()
    except ConfigError as error:
        pytest.skip(f"its scorers run in the kernel's jail: {error}")
    references = [problem.answer for problem in task.train]
    answers = [json.loads(reference)["entry"]["answer"] for reference in references]
    verdicts = verifier.score([f"So \\boxed{{{answer}}}." for answer in answers], references, [False] * len(answers))
    verifier.close()
    assert len(verdicts) > 2 and all(verdict.kind is Kind.CORRECT for verdict in verdicts)


# ---- too long, double, shared ----


def words(count: int, first: int = 0) -> str:
    return " ".join(f"w{i}" for i in range(first, first + count))


def problems(*texts: str) -> list[Problem]:
    return [Problem(str(i), text, "1") for i, text in enumerate(texts)]


def test_passages_and_duplicates_by_hand() -> None:
    assert list(passages("One, two  THREE - four", 3)) == [("one", "two", "three"), ("two", "three", "four")]
    assert list(passages("one two", 3)) == []
    given = problems("What is 1+1?", "what  is 1 + 1 ?", "What is 1-1?", "WHAT IS 1+1?")
    assert [(p.id, q.id) for p, q in duplicates([*given, given[0]])] == [("1", "0"), ("3", "0")], "listed again it is the same problem"


def test_overlap_by_hand() -> None:
    train = problems(words(20), words(20, 100), "short one", words(12), "Short  One")
    held = problems(words(13, 105), "SHORT ONE", words(12, 200))
    found = overlaps(train, {"test": held}, 13)["test"]
    assert [(p.id, q.id) for p, q in found.exact] == [("2", "1")]
    assert [(p.id, q.id) for p, q in found.passage] == [("1", "0")]
    assert not overlaps(train, {"test": held}, 14)["test"].passage
    wrapped = problems("Solve: what is 2+3? Say the answer.", "Solve: name a prime. Say the answer.")
    found = overlaps(wrapped, {"test": problems("What is 2+3?", "Solve: name a prime. Say the answer.", "name")}, 13)["test"]
    assert {(p.id, q.id) for p, q in found.exact} == {("0", "0"), ("1", "1")}, "with the instruction of all, or without"


class Listed:
    """A task of given texts."""

    name = "listed"
    notes = ("a note",)

    def __init__(self, train: list[Problem], heldout: list[Problem]):
        self.train, self.heldout = train, heldout
        self.encode = lambda problem, tokenizer: tokenizer.encode(problem.text)
        self.verifier = Parity


def prepared(room: int = 1000, **keys: Any) -> Prepared:
    task = Listed(problems("one", "two", "ONE", "four", words(20), "a long long prompt" * 9), problems("two", "six"))
    return prepare(task, {"bench": Listed(problems(words(14, 3)), [])}, DataSettings(**keys), Characters(), room)


def test_what_is_found_is_reported_and_dropped_only_where_asked_for() -> None:
    got = prepared(room=100)
    assert [p.id for p in got.task.train] == ["0", "1", "2", "3", "4"] and [s.name for s in got.sets] == ["heldout", "bench"]
    assert got.task.notes[0] == "a note" and got.longest == len(words(20))
    notes = "\n".join(got.task.notes)
    assert "train: 1 of 6 prompts have more than 100 tokens and are left out (the longest: 5, 162)" in notes
    assert "train: 1 of 5 problems repeat an earlier one (2 repeats 0)" in notes
    assert "heldout: 1 training problems are in it word for word (1 and 0)" in notes
    assert "bench: 1 training problems share 13 words in a row with one of its (4 and 0)" in notes and "left out of training" not in notes
    assert [p.id for p in prepared(room=100, drop_duplicates=True).task.train] == ["0", "1", "3", "4"]
    assert [p.id for p in prepared(room=100, drop_overlap="exact").task.train] == ["0", "2", "3", "4"]
    got = prepared(drop_overlap="passage", drop_duplicates=True, max_prompt_tokens=100)
    assert [p.id for p in got.task.train] == ["0", "3"] and "; left out of training" in "\n".join(got.task.notes)
    with pytest.raises(ConfigError, match="train: every prompt is too long: the shortest, of problem 0, has 3 tokens and at most 2 fit"):
        prepared(room=2)
    with pytest.raises(ConfigError, match=r"data\.overlap_words=0"):
        prepared(overlap_words=0)


def test_real_training_and_evaluation_data(shared_data: Path) -> None:
    names = ("math500", "aime24", "aime25", "amc23", "olympiadbench")
    sets = {name: MathTask(str(shared_data / f"{name}.parquet")) for name in names}
    assert [len(task.train) for task in sets.values()] == [500, 30, 30, 40, 675]
    columns: dict[str, Any] = {"problem_column": "question", "answer_after": "####"}
    assert len(MathTask(str(shared_data / "gsm8k_test.jsonl"), **columns).train) == 1319
    train = MathTask(str(shared_data / "math_train.parquet")).train
    assert len(duplicates(train)) == 2
    found = overlaps(train, {name: task.train for name, task in sets.items()}, 13)
    assert not any(one.exact for one in found.values()) and len(found["math500"].passage) == 172
