"""Tasks: prompts, reference answers, held-out problems, and messages about bad data."""

import json
import random
from itertools import islice
from pathlib import Path

import pyarrow
import pyarrow.parquet
import pytest
import yaml

from asym_lightning.tasks.countdown import PairsCountdown
from asym_lightning.tasks.math import MathTask
from asym_lightning.tasks.prompts import INSTRUCTION
from asym_lightning.types import ConfigError, Kind, Problem
from tests.support import ROOT

CONF = ROOT / "conf" / "task"


@pytest.fixture(scope="module")
def countdown():
    return PairsCountdown()


def split_key(problem):
    digits, target = problem.answer.split(">")
    return "".join(sorted(digits)), int(target)


def test_every_solution_is_right_and_some_problems_have_several(countdown):
    problems = [*countdown.train[:2000], *countdown.heldout]
    solutions = [countdown.solutions(problem) for problem in problems]
    for problem, answers in zip(problems, solutions, strict=True):
        verdicts = countdown.verifier().score(
            answers, [problem.answer] * len(answers), [False] * len(answers)
        )
        assert answers and all(verdict.kind is Kind.CORRECT for verdict in verdicts)
        assert [verdict.answer for verdict in verdicts] == answers  # listed in canonical form
    several = sum(len(answers) > 1 for answers in solutions)
    assert several / len(problems) == pytest.approx(0.41, abs=0.04)
    assert sum(map(len, solutions)) / len(problems) == pytest.approx(1.6, abs=0.1)
    assert countdown.solutions(Problem("x", "7715>7:", "7715>7")) == ["7*1=7", "7/1=7"]


def test_splits_are_disjoint_and_no_prompt_is_there_twice(countdown):
    assert not {split_key(p) for p in countdown.train} & {split_key(p) for p in countdown.heldout}
    for problems, size in ((countdown.train, 16384), (countdown.heldout, 256)):
        assert len({problem.text for problem in problems}) == len(problems) == size
    assert all(p.text == f"{p.answer}:" and len(p.text) <= 8 for p in countdown.train)


def test_draws_repeat_and_the_split_does_not_depend_on_the_seed(countdown):
    again, other = PairsCountdown(), PairsCountdown(seed=1)
    assert again.train == countdown.train
    assert again.heldout == countdown.heldout
    assert other.train != countdown.train
    assert not {split_key(p) for p in other.train} & {split_key(p) for p in countdown.heldout}


def test_demonstrations_are_legal_and_as_noisy_as_asked(countdown):
    verifier, heldout = countdown.verifier(), {split_key(p) for p in countdown.heldout}
    correct = {}
    for noise in (0.0, 0.6, 1.0):
        pairs = list(islice(countdown.demonstrations(random.Random(3), noise), 3000))
        for prompt, completion in pairs:
            digits, result = prompt[:4], completion.split("=")[1]
            (verdict,) = verifier.score([completion], [f"{digits}>{result}"], [False])
            assert verdict.answer == completion and verdict.reward == 1
            assert ("".join(sorted(digits)), int(prompt[5:-1])) not in heldout
        completions, answers = [c for _, c in pairs], [p[:-1] for p, _ in pairs]
        verdicts = verifier.score(completions, answers, [False] * len(pairs))
        correct[noise] = sum(verdict.reward for verdict in verdicts) / len(pairs)
    assert correct[0.0] == 1 and correct[1.0] < 0.15 and 0.38 < correct[0.6] < 0.52


@pytest.mark.parametrize(
    ("bad", "named"),
    [({"heldout_share": 1.0}, "heldout_share"), ({"train_size": 10**6}, "train_size")],
)
def test_impossible_countdown_settings_are_named(bad, named):
    with pytest.raises(ConfigError, match=f"^{named}="):
        PairsCountdown(**bad)


class Tokenizer:
    """The part of a tokenizer that a task uses: one id per character."""

    def __init__(self, chat_template=None):
        self.chat_template, self.calls = chat_template, []

    def encode(self, text, add_special_tokens=True):
        assert not add_special_tokens
        return [ord(char) for char in text]

    def apply_chat_template(self, messages, *, return_dict, tokenize, **options):
        assert tokenize and not return_dict
        self.calls.append((messages, options))
        return [1, 2, 3]


def write(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def test_countdown_prompt(countdown):
    problem = countdown.train[0]
    assert "".join(map(chr, countdown.encode(problem, Tokenizer()))) == problem.text


def test_math_rows_become_problems_and_prompts(tmp_path):
    rows = [
        {"problem": "1+1?", "answer": "2", "solution": "\\boxed{3}"},
        {"problem": "half?", "solution": "first \\boxed{1}, then \\boxed{\\frac{1}{2}}."},
        {"problem": "dollars?", "answer": "$x^2$"},
        {"problem": "list?", "answer": ["5"]},
        {"problem": "number?", "answer": 7},
    ]
    train, heldout = write(tmp_path / "a.jsonl", rows), write(tmp_path / "b.jsonl", rows[:1])
    task = MathTask(train, heldout_path=heldout, limit=5)
    assert [problem.answer for problem in task.train] == ["2", "\\frac{1}{2}", "x^2", "5", "7"]
    assert [problem.text for problem in task.heldout] == ["1+1?"]
    assert "".join(map(chr, task.encode(task.train[0], Tokenizer()))) == f"1+1?\n{INSTRUCTION}\n"
    chat = Tokenizer("template")
    assert task.encode(task.train[0], chat) == [1, 2, 3]
    messages = [{"role": "user", "content": f"1+1?\n{INSTRUCTION}"}]
    options = {"add_generation_prompt": True, "enable_thinking": False}
    assert chat.calls == [(messages, options)]
    plain = MathTask(str(tmp_path / "a.jsonl"), chat_template=False, limit=1)
    assert len(plain.train) == 1 and plain.encode(plain.train[0], chat)[0] == ord("1")


def test_math_reads_csv_and_parquet(tmp_path):
    (tmp_path / "a.csv").write_text('problem,answer\n"1,5 + 1?","2,5"\n')
    (problem,) = MathTask(str(tmp_path / "a.csv")).train
    assert (problem.text, problem.answer) == ("1,5 + 1?", "2,5")
    path = tmp_path / "a.parquet"
    rows = [
        {"problem": f"{i}+{i}?", "answer": str(2 * i), "solution": f"It is \\boxed{{{2 * i}}}."}
        for i in range(30)
    ]
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), path)
    task = MathTask(str(path), limit=20, answer_column="nowhere")
    given = MathTask(str(path), limit=20)
    assert len(task.train) == 20
    doubles = [str(2 * i) for i in range(20)]
    assert [p.answer for p in task.train] == [p.answer for p in given.train] == doubles


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("gone.parquet", None, r"^path=.*gone.parquet is no file"),
        ("empty.jsonl", "", r"^path=.*empty.jsonl has no rows"),
        ("head.csv", "problem,answer\n", r"^path=.*head.csv has no rows"),
        (
            "broken.jsonl",
            '{"problem": "1?", "answer": "1"}\n{"prob',
            r"broken.jsonl cannot be read: .*line 2 is not a JSON object",
        ),
        ("array.json", "[1]\n", r"array.json cannot be read: .*line 1 is not a JSON object"),
        ("broken.parquet", "nothing", r"broken.parquet cannot be read"),
        ("a.txt", "1", r"a.txt is of no known format"),
        (
            "p.jsonl",
            '{"problem": "1?", "answer": "1"}\n{"question": "2?", "answer": "2"}\n',
            r"^problem_column=problem: row 2 of .* has no 'problem'; .*question, answer",
        ),
        (
            "q.jsonl",
            '{"problem": "1?", "answer": ""}\n',
            r"^answer_column=answer: row 1 of .* has no 'answer' and no 'solution'",
        ),
        (
            "s.jsonl",
            '{"problem": "1?", "solution": "\\\\boxed{1"}\n',
            r"row 1 of .* has no answer: .*closed \\boxed",
        ),
    ],
)
def test_bad_data_is_told_in_one_line(tmp_path, name, content, message):
    if content is not None:
        (tmp_path / name).write_text(content)
    with pytest.raises(ConfigError, match=message) as error:
        MathTask(str(tmp_path / name))
    assert "\n" not in str(error.value)


def test_missing_path():
    with pytest.raises(ConfigError, match=r"^path=None: must be a local .* hub data set"):
        MathTask(None)


def test_config_files_name_every_setting():
    from hydra.utils import instantiate

    config = yaml.safe_load((CONF / "countdown.yaml").read_text())
    assert instantiate(config).train == PairsCountdown().train
    config = yaml.safe_load((CONF / "math.yaml").read_text())
    assert config.pop("defaults") == [{"/verify": "math"}]
    assert config["instruction"] == INSTRUCTION
    with pytest.raises(Exception, match=r"path=None: must be a local") as error:
        instantiate(config, path=None)
    assert isinstance(error.value.__cause__ or error.value, ConfigError)


def test_rows_with_an_empty_answer_are_left_out_and_named(tmp_path: Path) -> None:
    file = tmp_path / "some.jsonl"
    answers = {"1?": "1", "2?": "", "3?": "3"}
    write(file, [{"problem": problem, "answer": answer} for problem, answer in answers.items()])
    task = MathTask(str(file))
    assert [problem.text for problem in task.train] == ["1?", "3?"]
    assert task.notes == (f"{file}: 1 of 3 rows have no answer and are left out (row 2)",)


def test_all_of_math_loads(shared_data: Path) -> None:
    everything = MathTask(str(shared_data / "math_train.parquet"))
    assert len(everything.train) == 7498 and "row 5342, 5344" in everything.notes[0]
