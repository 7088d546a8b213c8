"""Cells of data sets that are no text: read as what they mean, left out and listed, or refused."""

import csv
import datetime
import json
from decimal import Decimal
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import datasets
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from asym_lightning.tasks.base import encode
from asym_lightning.tasks.math import MathTask
from asym_lightning.types import ConfigError, Problem
from tests.support.cells import in_json, refusal, write_jsonl
from tests.support.characters import characters

USER = {"role": "user", "content": "1+1?"}
NAN, INF = float("nan"), float("inf")


def write_parquet(path: Path, columns: dict[str, Any]) -> str:
    pq.write_table(pa.table(columns), path)
    return str(path)


def write_csv(path: Path, rows: list[list[str]]) -> str:
    with path.open("w", newline="") as stream:
        csv.writer(stream).writerows(rows)
    return str(path)


def answers_of(path: str, **settings: Any) -> list[str]:
    return [problem.answer for problem in MathTask(path, **settings).train]


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")


VALUES = [
    (1e16, "10000000000000000"),
    (1e-05, "0.00001"),
    (2.0, "2"),
    (-0.0, "0"),
    (0, "0"),
    (0.1, "0.1"),
    (1.5e300, "15" + "0" * 299),
    (123456789012345678901234567890, "123456789012345678901234567890"),
    (True, "True"),
    (["$69$", "$84$"], "69, 84"),
    ([2.0, 1e-05], "2, 0.00001"),
]


@pytest.mark.parametrize(("cell", "answer"), VALUES)
def test_a_number_becomes_plain_digits(tmp_path: Path, cell: Any, answer: str) -> None:
    assert in_json(tmp_path, "1?", cell).train[1].answer == answer
    assert in_json(tmp_path, "1?", answer).train[1].answer == answer
    if not isinstance(cell, list):
        assert in_json(tmp_path, cell, "1").train[1].text == answer


def test_a_number_of_json_keeps_the_digits_of_the_file(tmp_path: Path) -> None:
    path = tmp_path / "digits.jsonl"
    numbers = {"1e400": "1" + "0" * 400, "0.10000000000000000001": "0.10000000000000000001"}
    unused = f'"unused": [{"9" * 5000}, 1e999999999999]'
    lines = [f'{{"problem": "?", "answer": {number}, {unused}}}\n' for number in numbers]
    path.write_text("".join(lines))
    assert answers_of(str(path)) == list(numbers.values())
    path.write_text('{"problem": "?", "answer": 1e99999999}\n')
    with pytest.raises(ConfigError, match=r"row 1 of .*column answer, .*more than 4300 digits"):
        MathTask(str(path))


@pytest.mark.parametrize(
    ("values", "answers"),
    [
        (pa.array([b"2", b"\\frac12"]), ["2", "\\frac12"]),
        (pa.array([b"2\0\0", b"222"], pa.binary(3)), ["2", "222"]),
        (pa.array([1e16, 1e-05]), ["10000000000000000", "0.00001"]),
        (pa.array([0.1, 3.0], pa.float32()), ["0.1", "3"]),
        (pa.array([Decimal("2.50"), Decimal("7.00")]), ["2.5", "7"]),
        (pa.array([True, False]), ["True", "False"]),
        (pa.array([datetime.date(2024, 1, 31)] * 2), ["2024-01-31"] * 2),
        (pa.array([datetime.datetime(2024, 1, 31)] * 2), ["2024-01-31"] * 2),
        (pa.array([datetime.datetime(2024, 1, 31, 12, 5)] * 2), ["2024-01-31T12:05:00"] * 2),
        (pa.array([datetime.time(12, 5)] * 2), ["12:05:00"] * 2),
        (pa.array([["2", "3"], ["4"]]), ["2, 3", "4"]),
    ],
)
def test_columns_with_a_type(tmp_path: Path, values: Any, answers: list[str], cache: None) -> None:
    path = write_parquet(tmp_path / "a.parquet", {"problem": [b"1?", b"2?"], "answer": values})
    assert answers_of(path) == answers
    assert [problem.text for problem in MathTask(path).train] == ["1?", "2?"]
    (tmp_path / "set").mkdir()
    (tmp_path / "a.parquet").rename(tmp_path / "set" / "a.parquet")
    assert answers_of(str(tmp_path / "set")) == answers


def test_what_is_no_answer_is_left_out_and_listed(tmp_path: Path, cache: None) -> None:
    path = tmp_path / "none.jsonl"
    cells = ["1", NAN, None, INF, -INF, "", " ", [], [None], ["1", None], "nan", "$ $", "\0"]
    write_jsonl(path, [{"problem": "?", "answer": cell} for cell in cells])
    task = MathTask(str(path))
    note = f"{path}: 12 of 13 rows have no answer and are left out (row 2, 3, 4, 5, 6, ...)"
    assert [problem.answer for problem in task.train] == ["1"] and task.notes == (note,)
    # Ids are the numbers of the rows.
    rows = {"problem": ["1?", "2?", "3?"], "answer": [NAN, None, 3.0]}
    for name in ("b.parquet", "set/b.parquet"):
        (tmp_path / "set").mkdir(exist_ok=True)
        write_parquet(tmp_path / name, rows)
        task = MathTask(str((tmp_path / name).parent if "/" in name else tmp_path / name))
        assert [(problem.id[-2:], problem.answer) for problem in task.train] == [("/3", "3")]
        assert "2 of 3 rows have no answer and are left out (row 1, 2)" in task.notes[0]


def test_what_is_no_problem_is_left_out_and_listed(tmp_path: Path) -> None:
    path = tmp_path / "none.jsonl"
    cells = ["1?", None, NAN, "", "  ", []]
    write_jsonl(path, [{"problem": cell, "answer": "1"} for cell in cells])
    task = MathTask(str(path))
    assert len(task.train) == 1
    assert task.notes == (
        f"{path}: 5 of 6 rows have no problem and are left out (row 2, 3, 4, 5, 6)",
    )


def test_a_null_on_the_way_to_a_nested_answer_is_no_answer(tmp_path: Path) -> None:
    cells = [{"ground_truth": "1"}, None, {"ground_truth": None}]
    path = write_jsonl(
        tmp_path / "v.jsonl", [{"problem": "?", "reward_model": cell} for cell in cells]
    )
    task = MathTask(path, answer_column="reward_model.ground_truth")
    assert len(task.train) == 1 and "(row 2, 3)" in task.notes[0]


def test_of_several_columns_the_first_with_a_value_counts(tmp_path: Path) -> None:
    rows = {
        "question": [None, "q", NAN],
        "problem": ["p", "x", None],
        "final": [1.0, NAN, 3.0],
        "answer": ["a", "b", "c"],
    }
    path = write_jsonl(
        tmp_path / "s.jsonl", [{name: rows[name][i] for name in rows} for i in range(3)]
    )
    columns = {"problem_column": ["question", "problem"], "answer_column": ["final", "answer"]}
    task = MathTask(path, **columns)  # type: ignore[arg-type]
    assert [(p.text, p.answer) for p in task.train] == [("p", "1"), ("q", "b")]
    assert "have no problem and are left out (row 3)" in task.notes[0]


@pytest.mark.parametrize(
    ("cell", "message"),
    [
        ({"value": "2"}, "holds an object.*fields \\(value\\), such as answer_column=answer.value"),
        ([["2"], ["3"]], "holds a list of lists"),
        ([{"value": "2"}], "holds an object"),
        ([["2"]], "holds a list of lists"),
    ],
)
def test_an_answer_with_a_structure_is_refused(tmp_path: Path, cell: Any, message: str) -> None:
    found = refusal(tmp_path, "1?", cell)
    assert found.startswith("answer_column=answer: row 2 of ") and ", column answer, " in found
    with pytest.raises(ConfigError, match=message):
        in_json(tmp_path, "1?", cell)


@pytest.mark.parametrize(
    ("column", "message"),
    [
        (pa.array([b"2", b"\xff\xfe"]), "bytes that are not UTF-8"),
        (pa.array([datetime.timedelta(1)] * 2), "holds a timedelta"),
        (pa.array([0, 2**62], pa.timestamp("ms")), "cannot be read"),
        (pa.array([[("a", 1)]] * 2, pa.map_(pa.string(), pa.int64())), "list of lists"),
    ],
)
def test_values_that_are_no_text_are_refused(tmp_path: Path, column: Any, message: str) -> None:
    path = write_parquet(tmp_path / "a.parquet", {"problem": ["1?", "2?"], "answer": column})
    with pytest.raises(ConfigError, match=rf"^answer_column=answer: row . of .*{message}") as error:
        MathTask(path)
    assert "\n" not in str(error.value)
    # In a column that is not used the same values are no obstacle.
    path = write_parquet(
        tmp_path / "b.parquet", {"problem": ["1?", "2?"], "odd": column, "x": ["1", "2"]}
    )
    assert answers_of(path, answer_column="x") == ["1", "2"]


def test_what_is_beside_a_nested_answer_is_no_obstacle(tmp_path: Path) -> None:
    invalid = pa.array([b"\xff", b"\xff"]).view(pa.string())
    dates = pa.array([0, 2**62], pa.timestamp("ms"))
    answers = pa.array([0.1, 2], pa.float32())
    nested = pa.StructArray.from_arrays([answers, dates, invalid], ["value", "date", "text"])
    path = write_parquet(tmp_path / "n.parquet", {"problem": ["1?", "2?"], "given": nested})
    assert answers_of(path, answer_column="given.value") == ["0.1", "2"]
    assert answers_of(path, answer_column="given.text") == ["\ufffd", "\ufffd"]
    with pytest.raises(ConfigError, match=r"row 2 .*column given.date, .*cannot be read"):
        MathTask(path, answer_column="given.date")


def test_solutions_that_are_no_text(tmp_path: Path) -> None:
    cells = ["\\boxed{1}", ["a", "so \\boxed{\\frac12}"], NAN, None]
    path = tmp_path / "s.jsonl"
    task = MathTask(write_jsonl(path, [{"problem": "?", "solution": cell} for cell in cells]))
    assert [problem.answer for problem in task.train] == ["1", "\\frac12"]
    assert "(row 3, 4)" in task.notes[0]
    write_jsonl(path, [{"problem": "?", "solution": {"text": "\\boxed{1}"}}])
    with pytest.raises(ConfigError, match=r"^solution_column=solution: row 1 .*solution.text"):
        MathTask(str(path))


def test_half_surrogates_and_nuls_become_the_replacement_character(tmp_path: Path) -> None:
    path = tmp_path / "half.jsonl"
    path.write_text(
        '{"problem": "a", "answer": "1", "unused": "\\ud800"}\n'
        '{"problem": "b\\ud83d", "answer": "2"}\n'
        '{"problem": "c", "answer": "3\\udc00"}\n'
        '{"problem": "d\\u0000e", "answer": "\\u0000 4"}\n'
        '{"problem": "\\ud83d\\ude00", "answer": "5"}\n'
        '{"problem": [{"role": "user", "content": "f\\ud800"}], "answer": ["6\\ud800", "7"]}\n'
    )
    task = MathTask(str(path))
    assert [(p.text, p.answer) for p in task.train] == [
        ("a", "1"),
        ("b\ufffd", "2"),
        ("c", "3\ufffd"),
        ("d\ufffde", "\ufffd 4"),
        ("\U0001f600", "5"),
        ("f\ufffd", "6\ufffd, 7"),
    ]
    assert task.train[5].chat == (("user", "f\ufffd"),)
    assert task.notes == (
        f"{path}: 4 of 6 rows hold NULs or characters that are not valid, which become U+FFFD "
        "(row 2 problem, 3 answer, 4 problem and answer, 6 problem and answer)",
    )


def test_bytes_of_a_text_file_that_are_not_utf8_name_their_row(tmp_path: Path) -> None:
    csv_file, json_file = tmp_path / "a.csv", tmp_path / "a.jsonl"
    csv_file.write_bytes(b"problem,answer,x\n1?,1,\xff\n2\xe9?,2,\n")
    json_file.write_bytes(
        b'{"problem": "1?", "answer": "1", "x": "\xff"}\n{"problem": "2\xe9?", "answer": "2"}\n'
    )
    invalid = pa.array([b"1?", b"2\xe9?"]).view(pa.string())
    parquet = write_parquet(
        tmp_path / "a.parquet", {"problem": invalid, "answer": ["1", "2"], "x": invalid}
    )
    for path in (str(csv_file), str(json_file), parquet):
        task = MathTask(path)
        assert [problem.text for problem in task.train] == ["1?", "2\ufffd?"]
        assert "1 of 2 rows hold" in task.notes[0] and "(row 2 problem)" in task.notes[0]


def test_cells_of_csv(tmp_path: Path) -> None:
    head, huge = ["problem", "answer", "unused"], "x" * 300_000
    path = write_csv(tmp_path / "huge.csv", [head, ["1?", "1", huge], [huge, "2", ""]])
    assert answers_of(path) == ["1", "2"]
    chat = json.dumps([USER])
    path = write_csv(tmp_path / "chat.csv", [head, [chat, "nan", ""], [chat, "2", ""]])
    task = MathTask(path)
    assert task.train[0].chat == (("user", "1+1?"),) and "(row 1)" in task.notes[0]
    odd = tmp_path / "odd.csv"
    odd.write_text("problem,answer\n1?,1,000\n2?,2,\n3?\n4?,4\n")
    task = MathTask(str(odd))
    assert [problem.answer for problem in task.train] == ["2", "4"]
    assert task.notes == (
        f"{odd}: 1 of 4 rows have more cells than the header and are left out (row 1)",
        f"{odd}: 1 of 4 rows have no answer and are left out (row 3)",
    )
    odd.write_text("problem,answer,answer,x,x\n1?,1,2,,\n")
    with pytest.raises(ConfigError, match=r"row 1 .*column answer, .*several columns"):
        MathTask(str(odd))
    assert answers_of(str(odd), answer_column="problem") == ["1?"]
    # The rest of the file would be one cell of the second row.
    odd.write_text('problem,answer\n1?,1\n"2?,2\n3?,3\n4?,4\n')
    with pytest.raises(
        ConfigError, match=r"odd.csv cannot be read: .*row 2, from line 3 on: unexp"
    ):
        MathTask(str(odd))


def test_a_folder_that_datasets_cannot_read_says_why(tmp_path: Path, cache: None) -> None:
    (tmp_path / "set").mkdir()
    (tmp_path / "set" / "a.jsonl").write_text('{"problem": "1\\ud800?", "answer": "1"}\n')
    with pytest.raises(ConfigError, match=r"cannot be read: DatasetGen.*surrogate") as error:
        MathTask(str(tmp_path / "set"))
    assert "\n" not in str(error.value)


def test_a_folder_with_cells_of_different_types(tmp_path: Path, cache: None) -> None:
    (tmp_path / "set").mkdir()
    rows = [
        {"problem": "1?", "answer": "1", "x": {"a": 1}},
        {"problem": [USER], "answer": 2.0, "x": [1]},
        {"problem": "3?", "answer": None},
    ]
    write_jsonl(tmp_path / "set" / "a.jsonl", rows)
    task = MathTask(str(tmp_path / "set"))
    assert [(p.text, p.answer) for p in task.train] == [("1?", "1"), ("1+1?", "2")]
    assert "(row 3)" in task.notes[0]
    assert len(MathTask(str(tmp_path / "set"), limit=1).train) == 1


def test_the_problem_of_a_task_that_is_no_text_is_named() -> None:
    problems = [Problem("p/1", "1?", "1"), Problem("p/2", "half \ud800", "2")]
    task: Any = SimpleNamespace(name="mine", encode=lambda problem, tokenizer: [1])
    with pytest.raises(ConfigError, match=r"^task mine: the text of problem p/2 holds half"):
        encode(task, problems, characters())
