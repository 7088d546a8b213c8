"""Chain countdown: correct answers, the held-out split, and the warm start of its policy."""

import random
from dataclasses import replace
from itertools import islice

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import AutoTokenizer

from asym_lightning.commands.warmstart import ChainSettings, ChainWarmStart, number_tokenizer
from asym_lightning.tasks.chain import ChainCountdown
from asym_lightning.types import ConfigError, Kind, Problem
from asym_lightning.verify.chain import ChainVerifier
from tests.support.chain import CHAIN


@pytest.fixture(scope="module")
def task() -> ChainCountdown:
    return ChainCountdown()


# ---- answers ----


@pytest.mark.parametrize(
    ("completion", "kind", "answer"),
    [
        ("9-4=5,12*5=60", "correct", "9-4=5,12*5=60"),
        # The other order is the same chain.
        ("9-4=5,5*12=60", "correct", "9-4=5,12*5=60"),
        (" 1 + 4 = 5 , 12 * 5 = 60\n", "correct", "4+1=5,12*5=60"),
        ("12*4=48,48+12=60", "wrong", "12*4=48,48+12=60"),  # there is one 12
        ("12*5=60,60/1=60", "wrong", "12*5=60,60/1=60"),  # there is no 5
        ("9-4=5,5+12=17", "wrong", "9-4=5,12+5=17"),  # true, but not the target
        ("9-4=5,12*5=61", "wrong", "9-4=5,12*5=61"),
        ("9-4=6,12*5=60", "wrong", "9-4=6,12*5=60"),  # the first step is false
        ("9-4=6,12*6=60", "wrong", "9-4=6,12*6=60"),  # and so is the second
        ("4-9=5,12*5=60", "wrong", "4-9=5,12*5=60"),  # x-y only for x > y
        ("9/4=2,12*5=60", "wrong", "9/4=2,12*5=60"),
        # The second step does not use the first.
        ("9+1=10,12*5=60", "wrong", "9+1=10,12*5=60"),
        ("12*9=108,108-48=60", "wrong", "12*9=108,108-48=60"),
        ("9-4=5", "unparseable", None),
        ("9-4=5,12*5=60,60/1=60", "unparseable", None),
        ("9-4=5,1 2*5=60", "unparseable", None),  # two tokens are not one number
        ("9-4=5;12*5=60", "unparseable", None),
        ("9-4=5,12*5=?60", "unparseable", None),
        ("9-4=5,12*5=-60", "unparseable", None),
        ("9-4=5,12**5=60", "unparseable", None),
        ("9-4=5,12*٥=60", "unparseable", None),
        ("__import__('os').system('touch x')", "unparseable", None),
        ("9" * 1_000_000, "unparseable", None),
        ("", "no_answer", None),
        (" \n", "no_answer", None),
    ],
)
def test_kinds(completion: str, kind: str, answer: str | None) -> None:
    (verdict,) = ChainVerifier().score([completion], ["12,9,4,1>60"], [False])
    assert (verdict.kind, verdict.answer) == (kind, answer)
    assert verdict.reward == float(kind == "correct")


def test_a_number_is_used_as_often_as_it_is_there_and_no_result_is_above_99() -> None:
    def reward(completion: str, answer: str) -> float:
        return ChainVerifier().score([completion], [answer], [False])[0].reward

    assert reward("12*4=48,48+12=60", "12,12,4,1>60") == 1
    assert reward("4*1=4,4*4=16", "12,9,4,1>16") == 0 and reward("4*1=4,4*4=16", "9,4,4,1>16") == 1
    assert reward("5-4=1,1*1=1", "12,5,4,1>1") == 1, (
        "the intermediate result may equal a number that is left"
    )
    assert reward("12*9=108,108/9=12", "12,9,9,1>12") == 0
    assert reward("12*8=96,96/8=12", "12,8,8,1>12") == 1


def test_truncated_and_bad_calls() -> None:
    (verdict,) = ChainVerifier().score(["9-4=5,12*5=60"], ["12,9,4,1>60"], [True])
    assert verdict.kind is Kind.TRUNCATED and verdict.reward == 0
    with pytest.raises(ValueError, match="lengths"):
        ChainVerifier().score(["9-4=5,12*5=60"], ["12,9,4,1>60"], [])
    for bad in ("12,9,4>60", "7715>7", "60"):
        with pytest.raises(ValueError, match="12,9,4,1>60"):
            ChainVerifier().score(["9-4=5,12*5=60"], [bad], [False])


SYMBOLS = ["1", "4", "5", "9", "12", "48", "60", "+", "-", "*", "/", "=", ",", " ", "?", ":"]
PIECES = st.lists(st.sampled_from(SYMBOLS), max_size=13)


@settings(max_examples=300, deadline=None)
@given(PIECES.map("".join) | st.sampled_from(["9-4=5,5*12=60", "1+4=5,12*5=60"]))
def test_every_text_gets_one_verdict_and_right_is_what_the_task_lists(text: str) -> None:
    (verdict,) = ChainVerifier().score([text], ["12,9,4,1>60"], [False])
    if verdict.kind is Kind.CORRECT:
        assert verdict.answer in {"4+1=5,12*5=60", "9-4=5,12*5=60"}


# ---- problems ----


def test_every_listed_solution_is_right(task: ChainCountdown) -> None:
    assert task.solutions(Problem("", "", "12,9,4,1>60")) == ["4+1=5,12*5=60", "9-4=5,12*5=60"]
    problems = [*task.train[:2000], *task.heldout]
    for problem in problems:
        answers = task.solutions(problem)
        verdicts = task.verifier().score(
            answers, [problem.answer] * len(answers), [False] * len(answers)
        )
        assert answers and [v.answer for v in verdicts if v.kind is Kind.CORRECT] == answers
    several = sum(len(task.solutions(p)) > 1 for p in problems)
    assert several / len(problems) == pytest.approx(0.8, abs=0.03)


def test_splits_are_disjoint_whatever_the_seed(task: ChainCountdown) -> None:
    other = ChainCountdown(seed=1)
    train = {p.id for p in (*task.train, *other.train)}
    heldout = {p.id for p in (*task.heldout, *other.heldout)}
    assert not train & heldout and other.train != task.train and other.heldout != task.heldout
    assert ChainCountdown().train == task.train
    assert len({p.id for p in task.train}) == 16384 and len({p.id for p in task.heldout}) == 256
    for problem in (*task.train[:500], *task.heldout):
        numbers = list(map(int, problem.id.split(">")[0].split(",")))
        assert problem.text == f"{problem.answer}:"
        assert numbers == sorted(numbers, reverse=True)
        assert 1 <= min(numbers) <= max(numbers) <= 12
    assert task.is_heldout("1,4,9,12", 60) == task.is_heldout("12,9,4,1", 60)
    with pytest.raises(
        ConfigError, match=r"^heldout_share=0\.5: .* the warm-started policy has seen the rest"
    ):
        ChainCountdown(heldout_share=0.5)


def test_demonstrations_are_valid_chains_on_training_problems(task: ChainCountdown) -> None:
    shares = {}
    for noise in (0.0, 0.4):
        pairs = list(islice(task.demonstrations(random.Random(3), noise), 2000))
        for prompt, completion in pairs:
            numbers, _, target = prompt[:-1].partition(">")
            assert not task.is_heldout(numbers, int(target))
            result = completion.rpartition("=")[2]
            (verdict,) = task.verifier().score([completion], [f"{numbers}>{result}"], [False])
            assert verdict.reward == 1
        completions, answers = [c for _, c in pairs], [p[:-1] for p, _ in pairs]
        verdicts = task.verifier().score(completions, answers, [False] * 2000)
        shares[noise] = sum(verdict.reward for verdict in verdicts) / 2000
    assert shares[0.0] == 1 and shares[0.4] == pytest.approx(0.62, abs=0.05)


# ---- tokens ----


def test_every_number_is_one_token_and_a_text_is_read_as_its_tokens_are(
    task: ChainCountdown,
) -> None:
    tokenizer = AutoTokenizer.from_pretrained(CHAIN)
    assert len(tokenizer) == 111 and tokenizer.eos_token_id == 109 and tokenizer.pad_token_id == 110
    texts = ("12,9,4,1>60:", "9-4=5,12*5=60", "99", "100")
    assert [len(tokenizer.encode(text)) for text in texts] == [10, 11, 1, 1]
    assert task.encode(task.train[0], tokenizer) == number_tokenizer().encode(task.train[0].text)
    for text in ("12,9,4,1>60:", "9-4=5,12*5=60"):
        assert tokenizer.decode(tokenizer.encode(text), skip_special_tokens=True) == text
    ends = [109, 110]
    spaced = tokenizer.encode("9-4=5,1 2*5=60")
    assert tokenizer.decode([*spaced, *ends], skip_special_tokens=True) == "9-4=5,1 2*5=60"
    assert len(spaced) == 12
    unknown = tokenizer.decode(tokenizer.encode("what is 7² + 100?"), skip_special_tokens=True)
    assert unknown.count("?") > 3


# ---- the policy ----


def test_noise_comes_at_the_end_and_the_rate_falls_there() -> None:
    short = replace(ChainSettings(), steps=80, batch_size=10, warmup_steps=4)
    module = ChainWarmStart(short, torch.nn.Linear(1, 1), number_tokenizer())
    pairs = list(islice(module.demonstrations(), 800))
    completions, answers = [c for _, c in pairs], [p[:-1] for p, _ in pairs]
    verdicts = ChainVerifier().score(completions, answers, [False] * 800)
    assert all(v.reward == 1 for v in verdicts[:600])
    assert sum(v.reward for v in verdicts[600:]) < 160
    optimizer = torch.optim.SGD(module.parameters(), lr=1.0)
    schedule = module.schedule(optimizer)
    rates = [schedule.lr_lambdas[0](step) for step in (0, 3, 59, 60, 70, 80)]
    assert rates == pytest.approx([0.25, 1, 1, 1, 0.515, 0.03])
