"""Verifiers: exact, in order, and unharmed by hostile answers."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from asym_lightning.types import ConfigError, Kind
from asym_lightning.verify import score_math
from asym_lightning.verify.countdown import CountdownVerifier
from asym_lightning.verify.failures import VerificationError
from asym_lightning.verify.math import MathVerifier, last_boxed, shared_verifier
from tests.support import ROOT
from tests.support.runs import random_policy, run

BOMB = "\\boxed{\\sum_{n=1}^{10^9} n!}"


@pytest.fixture(scope="module")
def verifier():
    verifier = MathVerifier(timeout_s=2.0, workers=2)
    yield verifier
    verifier.close()


def kinds(verdicts):
    return [str(verdict.kind) for verdict in verdicts]


@pytest.mark.parametrize(
    ("completion", "kind", "answer"),
    [
        ("7*1=7", "correct", "7*1=7"),
        (" 1 * 7 = 7\n", "correct", "7*1=7"),
        ("7/1=7", "correct", "7/1=7"),
        ("7+7=14", "wrong", "7+7=14"),
        ("5+2=7", "wrong", "5+2=7"),
        ("7*1=8", "wrong", "7*1=8"),
        ("7/5=7", "wrong", "7/5=7"),
        ("1/0=7", "wrong", "1/0=7"),
        ("71-64=7", "wrong", "71-64=7"),
        ("1-7=7", "wrong", "1-7=7"),
        ("7*1", "unparseable", None),
        ("7*1=7;", "unparseable", None),
        ("7*1=+7", "unparseable", None),
        ("7**1=7", "unparseable", None),
        ("7²*1=7", "unparseable", None),
        ("__import__('os').system('touch x')", "unparseable", None),
        ("9" * 1_000_000, "unparseable", None),
        ("(" * 10_000, "unparseable", None),
        ("", "no_answer", None),
        (" \n", "no_answer", None),
    ],
)
def test_countdown_kinds(completion, kind, answer):
    (verdict,) = CountdownVerifier().score([completion], ["7715>7"], [False])
    assert (verdict.kind, verdict.answer) == (kind, answer)
    assert verdict.reward == float(kind == "correct")


def test_countdown_uses_each_digit_only_as_often_as_given():
    answers = ["7715>14", "7125>14"]
    verdicts = CountdownVerifier().score(["7+7=14", "7+7=14"], answers, [False, False])
    assert kinds(verdicts) == ["correct", "wrong"]


def test_countdown_truncated_and_bad_calls():
    (verdict,) = CountdownVerifier().score(["7*1=7"], ["7715>7"], [True])
    assert verdict.kind is Kind.TRUNCATED and verdict.reward == 0
    with pytest.raises(ValueError, match="lengths"):
        CountdownVerifier().score(["7*1=7"], ["7715>7"], [])
    with pytest.raises(ValueError, match="7715>7"):
        CountdownVerifier().score(["7*1=7"], ["7"], [False])


@settings(max_examples=300, deadline=None)
@given(st.text(alphabet="0123456789+-*/=>: ()x", max_size=20))
def test_countdown_gives_every_text_one_verdict_and_agrees_with_arithmetic(text):
    (verdict,) = CountdownVerifier().score([text], ["7715>7"], [False])
    if verdict.kind is Kind.CORRECT:
        assert verdict.answer in {"7*1=7", "7/1=7"}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("so \\boxed{1} or \\boxed{\\frac{1}{2}}.", ("\\frac{1}{2}", True)),
        ("$\\boxed{\\left\\{1\\right.}$", ("\\left\\{1\\right.", True)),
        ("thus $\\boxed 2$.", ("2", True)),
        ("\\boxed{}", ("", True)),
        ("\\boxed{1} then \\boxed{2", (None, True)),
        ("\\boxed", (None, True)),
        ("no box", (None, False)),
    ],
)
def test_last_boxed(text, expected):
    assert last_boxed(text) == expected


def test_math_kinds_in_order(verifier):
    cases = [
        ("so \\boxed{\\frac12}", "0.5", "correct"),
        ("\\boxed{1} no: \\boxed{3}", "1", "wrong"),
        ("the answer is 1", "1", "no_answer"),
        ("\\boxed{ }", "1", "no_answer"),
        ("\\boxed{1", "1", "unparseable"),
        ("\\boxed{x^2+2x+1}", "(x+1)^2", "correct"),
        ("\\boxed{(3, \\frac{\\pi}{2})}", "\\left( 3, \\frac{\\pi}{2} \\right)", "correct"),
        ("\\boxed{" + "9" * 1_000_000 + "}", "1", "unparseable"),
        ("\\boxed{" + "{" * 10_000 + "1" + "}" * 10_000 + "}", "1", "unparseable"),
        ("\\boxed{" * 10_000, "1", "unparseable"),
    ]
    completions, answers, expected = map(list, zip(*cases, strict=True))
    verdicts = verifier.score(completions, answers, [False] * len(cases))
    assert kinds(verdicts) == expected
    rewards = [float(kind == "correct") for kind in expected]
    assert [verdict.reward for verdict in verdicts] == rewards
    assert all(verdict.detail for verdict in verdicts if verdict.kind is Kind.UNPARSEABLE)
    assert verifier.score(["\\boxed{1}"], ["1"], [True])[0].kind is Kind.TRUNCATED
    assert verifier.score([], [], []) == []


def test_a_verdict_has_the_answer_as_written_and_not_as_a_worker_says(verifier):
    cases = [
        ("\\boxed{\\frac{2}{4}}", "1/2", "\\frac{2}{4}", True),
        ("\\boxed{ 1/2\n}", "1/2", "1/2", False),
        ("$\\boxed{1}$ or $\\boxed{2}$", "1, 2", "1, 2", False),
        ("\\boxed{" + "0" * 300 + "7}", "7", "0" * 300 + "7", True),
        ("\\boxed{3 4}", "7", "3 4", True),
        ("no box", "7", None, None),
    ]
    completions, references, texts, others = map(list, zip(*cases, strict=True))
    verdicts = verifier.score(completions, references, [False] * len(cases))
    assert kinds(verdicts) == ["correct"] * 4 + ["unparseable", "no_answer"]
    assert [verdict.text for verdict in verdicts] == texts
    assert [verdict.is_other_text for verdict in verdicts] == others


def test_equal_wrong_numbers_have_equal_answers(verifier):
    halves = ["\\boxed{\\frac{1}{2}}", "\\boxed{0.5}", "\\boxed{\\frac{2}{4}}"]
    verdicts = verifier.score(halves, ["3"] * 3, [False] * 3)
    assert kinds(verdicts) == ["wrong"] * 3 and len({verdict.answer for verdict in verdicts}) == 1


def test_a_hanging_answer_costs_only_itself(verifier):
    completions = ["\\boxed{4}", BOMB, "\\boxed{4}", BOMB, *["\\boxed{4}", "\\boxed{5}"] * 10]
    verifier.score(completions[:1], ["2+2"], [False])
    verdicts = verifier.score(completions, ["2+2"] * len(completions), [False] * len(completions))
    bombs, others = ["correct", "timeout"] * 2, ["correct", "wrong"] * 10
    assert kinds(verdicts) == bombs + others
    assert "2 s" in verdicts[1].detail


def test_answers_cannot_run_code_or_exhaust_the_machine(verifier, tmp_path):
    target = tmp_path / "made"
    hostile = [
        f"\\boxed{{__import__('os').system('touch {target}')}}",
        f"\\boxed{{\\text{{__import__('os').system('touch {target}')}}}}",
        f"__import__('os').system('touch {target}')",
        f"\\boxed{{$__import__('os').system('touch {target}')$}}",
        "\\boxed{" + "{" * 400 + "1" + "}" * 400 + "}",
        "\\boxed{" + "(" * 300 + "1" + ")" * 300 + "}",
        "\\boxed{10^{10^{10}}}",
        "\\boxed{" + "9" * 900 + "!}",
        "\\boxed{\x00\ud800}",
    ]
    completions = [*hostile, "\\boxed{7}"]
    verdicts = verifier.score(completions, ["7"] * len(completions), [False] * len(completions))
    assert not target.exists()
    assert verdicts[-1].kind is Kind.CORRECT
    assert not any(verdict.reward for verdict in verdicts[:-1] if verdict.answer != "7")
    assert all(verdict.detail for verdict in verdicts if verdict.kind in (Kind.ERROR, Kind.TIMEOUT))


def test_worker_environment_holds_no_secret(verifier, monkeypatch):
    monkeypatch.setenv("ASYM_TEST_SECRET", "hush")
    verifier.close()
    assert verifier.score(["\\boxed{1}"], ["1"], [False])[0].reward == 1
    environ = Path(f"/proc/{verifier.pool.workers[0].process.pid}/environ")
    if not os.access(environ, os.R_OK):
        pytest.skip("no /proc here, or a jailed process's is closed to us")
    assert b"hush" not in environ.read_bytes()


def test_a_signal_to_all_processes_of_a_job_leaves_the_workers_at_work(verifier):
    """Slurm sends SIGTERM to all of them; the trainer then finishes its iteration."""
    for _ in range(100):
        # A worker starts with the first answer that it is given; one may have taken all.
        verifier.score(["\\boxed{1}"] * 8, ["1"] * 8, [False] * 8)
        if all(worker.process is not None for worker in verifier.pool.workers):
            break
    pids = [worker.process.pid for worker in verifier.pool.workers]
    for pid in pids:
        os.kill(pid, signal.SIGTERM)
    time.sleep(0.3)
    assert kinds(verifier.score(["\\boxed{1}"] * 2, ["1"] * 2, [False] * 2)) == ["correct"] * 2
    assert [worker.process.pid for worker in verifier.pool.workers] == pids


def test_a_worker_that_dies_is_replaced(verifier):
    assert verifier.score(["\\boxed{1}"] * 2, ["1"] * 2, [False] * 2)[0].reward == 1
    for worker in verifier.pool.workers:
        if worker.process is not None:
            os.kill(worker.process.pid, 9)
    assert kinds(verifier.score(["\\boxed{1}"] * 4, ["1"] * 4, [False] * 4)) == ["correct"] * 4


def test_closed_workers_are_gone_and_start_again():
    verifier = MathVerifier(workers=1)
    assert not verifier.pool.workers  # nothing starts before the first answer
    assert verifier.score(["\\boxed{1}"], ["1"], [False])[0].reward == 1
    process = verifier.pool.workers[0].process
    verifier.close()
    assert process.poll() is not None
    verifier.close()


def test_bad_settings_are_named():
    for name, value in {"timeout_s": 0, "workers": 1.5, "memory_gb": float("nan")}.items():
        with pytest.raises(ConfigError, match=rf"^{name}={value}: must be a "):
            MathVerifier(**{name: value})


def test_score_math():
    assert score_math(["\\boxed{2}", "2", "\\boxed{3}"], ["2", "2", "2"]) == [1.0, 0.0, 0.0]
    shared_verifier().close()


def test_reference_solutions_of_math500_verify(verifier, shared_data):
    import pyarrow.parquet

    rows = pyarrow.parquet.read_table(shared_data / "math500.parquet").to_pylist()[::10]
    assert len(rows) == 50
    solutions = [row["solution"] for row in rows]
    answers = [row["answer"] for row in rows]
    verdicts = verifier.score(solutions, answers, [False] * 50)
    assert kinds(verdicts) == ["correct"] * 50
    other_answers = [f"{answer} + 1" for answer in answers[1:]] + ["-12345"]
    shifted = verifier.score(solutions, other_answers, [False] * 50)
    assert sum(verdict.reward for verdict in shifted) < 5


def test_score_math_needs_no_guard_in_a_script(tmp_path):
    script = tmp_path / "score.py"
    script.write_text(
        "print('started')\n"
        "from asym_lightning.verify import score_math\n"
        "print(score_math(['\\\\boxed{1}', '\\\\boxed{3}'], ['1', '2']))\n"
    )
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, script], capture_output=True, text=True, timeout=120, env=environment
    )
    assert done.stdout == "started\n[1.0, 0.0]\n", done.stderr


def test_a_run_whose_answers_cannot_be_verified_stops_with_an_example(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "my_broken_scorer.py").write_text(
        "def fail(completion, answer):\n    raise ValueError('out of order')\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    sums = [{"problem": f"{i}+1?", "answer": str(i + 1)} for i in range(9)]
    (tmp_path / "sums.jsonl").write_text("".join(json.dumps(row) + "\n" for row in sums))
    task = (
        "task=math",
        f"task.path={tmp_path / 'sums.jsonl'}",
        "verify@task.verify=function",
        "rollout.max_tokens=64",
    )
    scorer = (
        "task.verify.target=my_broken_scorer:fail",
        "task.verify.needs_jail=false",
        "algo=reinforce",
    )
    policy = f"policy.path={random_policy(tmp_path / 'policy')}"
    message = (
        r"\d+ of 32 answers could not be verified, "
        r"more than callbacks\.rollout\.max_verify_errors=0\.05 allows: "
        r"ValueError: out of order; reference '\d', completion ends"
    )
    with pytest.raises(VerificationError, match=message):
        run(monkeypatch, tmp_path, policy, *task, *scorer, "trainer.max_epochs=3")
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert summary["status"] == "failed"
    assert summary["iterations"] == 0
    assert "out of order" in summary["error"]
