"""Prompts that are too long, and problems that are there twice or also in an evaluation set."""

from pathlib import Path
from typing import Any

import pytest

from asym_lightning.tasks.math import MathTask
from asym_lightning.tasks.overlap import duplicates, overlaps, passages
from asym_lightning.tasks.prepare import DataSettings, Prepared, prepare
from asym_lightning.types import ConfigError, Problem
from tests.support.characters import characters
from tests.support.coin import Parity


def words(count: int, first: int = 0) -> str:
    return " ".join(f"w{i}" for i in range(first, first + count))


def problems(*texts: str) -> list[Problem]:
    return [Problem(str(i), text, "1") for i, text in enumerate(texts)]


def test_passages_and_duplicates_by_hand() -> None:
    of_three = list(passages("One, two  THREE - four", 3))
    assert of_three == [("one", "two", "three"), ("two", "three", "four")]
    assert list(passages("one two", 3)) == []
    given = problems("What is 1+1?", "what  is 1 + 1 ?", "What is 1-1?", "WHAT IS 1+1?")
    # The first problem is listed again: it is no duplicate of itself.
    found = duplicates([*given, given[0]])
    assert [(p.id, q.id) for p, q in found] == [("1", "0"), ("3", "0")]


def test_overlap_by_hand() -> None:
    train = problems(words(20), words(20, 100), "short one", words(12), "Short  One")
    held = problems(words(13, 105), "SHORT ONE", words(12, 200))
    found = overlaps(train, {"test": held}, 13)["test"]
    assert [(p.id, q.id) for p, q in found.exact] == [("2", "1")]
    assert [(p.id, q.id) for p, q in found.passage] == [("1", "0")]
    assert not overlaps(train, {"test": held}, 14)["test"].passage
    sums, prime = "Solve: what is 2+3? Say the answer.", "Solve: name a prime. Say the answer."
    wrapped = problems(sums, prime)
    held = problems("What is 2+3?", prime, "name")
    found = overlaps(wrapped, {"test": held}, 13)["test"]
    # Problems match with the instruction that all of them have, or without it.
    assert {(p.id, q.id) for p, q in found.exact} == {("0", "0"), ("1", "1")}


class Listed:
    """A task of given texts."""

    name = "listed"
    notes = ("a note",)

    def __init__(self, train: list[Problem], heldout: list[Problem]):
        self.train, self.heldout = train, heldout
        self.encode = lambda problem, tokenizer: tokenizer.encode(problem.text)
        self.verifier = Parity


def prepared(room: int = 1000, **keys: Any) -> Prepared:
    train = problems("one", "two", "ONE", "four", words(20), "a long long prompt" * 9)
    task = Listed(train, problems("two", "six"))
    benchmarks = {"bench": Listed(problems(words(14, 3)), [])}
    return prepare(task, benchmarks, DataSettings(**keys), tokenizer=characters(), room=room)


def test_what_is_found_is_reported_and_dropped_only_where_asked_for() -> None:
    got = prepared(room=100)
    assert [p.problem.id for p in got.train] == ["0", "1", "2", "3", "4"]
    assert [s.name for s in got.sets] == ["heldout", "bench"]
    assert got.notes[0] == "a note" and got.longest == len(words(20))
    notes = "\n".join(got.notes)
    long = "1 of 6 prompts have more than 100 tokens and are left out (the longest: 5, 162)"
    assert f"train: {long}" in notes
    assert "train: 1 of 5 problems repeat an earlier one (2 repeats 0)" in notes
    assert "heldout: 1 training problems are in it word for word (1 and 0)" in notes
    assert "bench: 1 training problems share 13 words in a row with one of its (4 and 0)" in notes
    assert "left out of training" not in notes
    different = prepared(room=100, drop_duplicates=True).train
    assert [p.problem.id for p in different] == ["0", "1", "3", "4"]
    apart = prepared(room=100, drop_overlap="exact").train
    assert [p.problem.id for p in apart] == ["0", "2", "3", "4"]
    got = prepared(drop_overlap="passage", drop_duplicates=True, max_prompt_tokens=100)
    assert [p.problem.id for p in got.train] == ["0", "3"]
    assert "; left out of training" in "\n".join(got.notes)
    shortest = "the shortest, of problem 0, has 3 tokens and at most 2 fit"
    with pytest.raises(ConfigError, match=f"train: every prompt is too long: {shortest}"):
        prepared(room=2)
    with pytest.raises(ConfigError, match=r"^overlap_words=0: "):
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
    assert not any(overlap.exact for overlap in found.values())
    assert len(found["math500"].passage) == 172
