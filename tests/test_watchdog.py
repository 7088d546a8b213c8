"""A rank that fails, dies or stands still ends the run, and the run says which one it was and where."""

import os
import re
import signal
import subprocess
import sys
import textwrap
import time
from multiprocessing.process import BaseProcess
from pathlib import Path

import psutil
import pytest
from lightning import Trainer

from asym_lightning.cli import entry
from asym_lightning.runfolder import read_summary
from asym_lightning.types import ConfigError
from asym_lightning.watch.launcher import watch_start
from asym_lightning.watch.parent import VARIABLE
from asym_lightning.watch.reports import Cause, Report, message, standstill
from callbacks.watchdog import Watchdog
from tests.conftest import ROOT
from tests.runs import SMALL, random_policy
from tests.watched import FAR_S, LIMIT_S, forked, outcome

SAYS = {
    "fail": r"error: rank {} failed \(phase learn, iteration 1\): ValueError: boom; ",
    "die": r"error: rank {} has died \(phase learn, iteration 1\); ",
    "stall": rf"error: rank {{}} stands still \(phase learn, iteration 1, at tests/watched\.py:\d+ in stall\): "
    rf"no rank has made progress for {LIMIT_S:g} s \(callbacks\.watchdog\.limit_s\); ",
    "freeze": r"error: rank {} stands still \(phase learn, iteration 1[^)]*\): .*; ",
}
LEAVES = {"fail": "ValueError: boom", "die": "", "stall": "in stall\n    time.sleep(0.1)", "freeze": ""}
STATUS = {"fail": 1, "die": -signal.SIGKILL, "stall": 1, "freeze": -signal.SIGKILL}


@pytest.mark.parametrize(
    ("trouble", "rank", "strategy"),
    [
        ("fail", 0, "ddp"),
        ("fail", 1, "ddp"),
        ("fail", 1, "fsdp2"),
        ("die", 0, "fsdp2"),
        ("die", 1, "ddp"),
        ("die", 1, "fsdp2"),
        ("die", 1, "deepspeed"),
        ("stall", 1, "deepspeed"),
        ("stall", 0, "ddp"),
        ("stall", 1, "ddp"),
        ("stall", 1, "fsdp2"),
        ("freeze", 1, "ddp"),
    ],
)
def test_one_rank_in_trouble_ends_the_run_and_is_named(trouble: str, rank: int, strategy: str, tmp_path: Path) -> None:
    ended = outcome(tmp_path, f"{trouble}-{rank}", strategy)
    waits = rf"rank {1 - rank} (waited|was) in learn, iteration 1(, at \S+ in \w+( \(\S+ in \w+\))?)?\n"
    said = re.search(SAYS[trouble].format(rank) + waits, ended[1 if (trouble, rank) == ("die", 0) else 0][1])
    assert said and ended[1 - rank][0] == 1, ended
    assert f"error: {(tmp_path / 'note').read_text()}\n" == said[0]
    assert ended[rank][0] == STATUS[trouble] and LEAVES[trouble] in ended[rank][1]


def test_a_single_process_that_stands_still_ends_and_shows_where(tmp_path: Path) -> None:
    [(status, output)] = outcome(tmp_path, "stall-0", world=1)
    assert status == 1 and LEAVES["stall"] in output
    assert re.search(
        r"error: rank 0 stands still \(phase learn, iteration 1, at tests/watched\.py:\d+ in stall\): no progress for ", output
    )
    assert (tmp_path / "note").read_text().startswith("rank 0 stands still")


def test_an_interrupt_of_one_rank_ends_the_others(tmp_path: Path) -> None:
    ended = outcome(tmp_path, "interrupt-1")
    assert [status for status, _ in ended] == [130, 1]  # Lightning's own, which the command line turns into 130
    assert "error: rank 1 was interrupted (phase learn, iteration 1); rank 0 " in ended[0][1]


def test_a_rank_may_be_slow_at_the_start_while_it_makes_progress_and_at_the_end(tmp_path: Path) -> None:
    ended = outcome(tmp_path, "slow")
    assert [status for status, _ in ended] == [0, 0] and not (tmp_path / "note").exists(), ended


def test_the_rank_that_others_wait_for_is_the_one_that_stands_still() -> None:
    waits = Report(0, "learn", 3, idle_s=20.0, where="policy.py:1 in step", waiting=True)
    stuck = Report(1, "verify", 3, idle_s=15.0, where="mine.py:7 in score")
    assert standstill([waits, stuck], 16.0) is None, "a rank has made progress"
    cause = standstill([waits, stuck], 10.0)
    assert cause is not None and (cause.rank, cause.kind) == (1, "stalled")
    assert message(cause, [waits, stuck]) == (
        "rank 1 stands still (phase verify, iteration 3, at mine.py:7 in score): no rank has made progress for 10 s "
        "(callbacks.watchdog.limit_s); rank 0 waited in learn, iteration 3, at policy.py:1 in step"
    )


@pytest.mark.parametrize(
    ("one", "two", "culprit"),
    [
        ({"phase": "learn", "waiting": True}, {"phase": "sync", "waiting": True}, 1),  # all wait: the one that is behind
        ({"phase": "log", "iteration": 2}, {"phase": "sync", "iteration": 3}, 0),
        ({"phase": "learn", "idle_s": 30.0}, {"phase": "learn", "idle_s": 40.0}, 1),  # side by side: the one that is idle for longest
        ({"phase": "learn", "silent_s": 15.0, "waiting": True}, {"phase": "generate"}, 0),  # its last report says nothing of now
        ({"phase": "learn"}, {"phase": "start", "state": "done"}, 0),
    ],
)
def test_of_several_that_are_idle_one_is_named(one: dict, two: dict, culprit: int) -> None:
    cause = standstill([Report(rank, **{"idle_s": 20.0} | given) for rank, given in enumerate((one, two))], 10.0)
    assert cause is not None and cause.rank == culprit


def test_a_run_whose_ranks_are_done_does_not_stand_still() -> None:
    assert standstill([Report(0, state="done", idle_s=99.0), Report(1, state="done", idle_s=99.0)], 10.0) is None


def test_many_waiting_ranks_are_one_clause() -> None:
    others = [Report(rank, "generate", 3, idle_s=2.0) for rank in (0, 1, 3, 4, 5, 7)]
    said = message(Cause(2, "died", "killed by SIGKILL"), [*others, Report(2, "learn", 3)])
    assert said == "rank 2 has died (phase learn, iteration 3; killed by SIGKILL); ranks 0-1, 3-5, 7 waited in generate, iteration 3"
    places = [Report(rank, "learn", rank) for rank in range(1, 8)]
    assert message(Cause(0, "died"), places).endswith("rank 4 was in learn, iteration 4; and 3 more places")
    assert message(Cause(-1, "died"), []).startswith("the launcher of this run")


def test_a_limit_of_nothing_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"callbacks\.watchdog\.limit_s=0: must be "):
        Watchdog(limit_s=0)


@pytest.fixture
def mine(tmp_path: Path) -> Path:
    """A folder with a callback that lets the second rank of a run die in the second iteration, or wait there for ever."""
    (tmp_path / "callbacks").mkdir()
    (tmp_path / "trouble.py").write_text(
        textwrap.dedent("""
        import os, signal, time
        from lightning import Callback

        class Trouble(Callback):
            def __init__(self, seconds):
                self.seconds = seconds

            def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
                if trainer.current_epoch == 1 and trainer.global_rank == 1:
                    print("trouble", flush=True)
                    time.sleep(self.seconds)
                    os.kill(os.getpid(), signal.SIGKILL)
        """)
    )
    for kind, seconds in (("dies", 1), ("waits", 1000)):
        body = f"defaults: [default]\ntrouble:\n  _target_: trouble.Trouble\n  seconds: {seconds}\n"
        (tmp_path / "callbacks" / f"{kind}.yaml").write_text(body)
    random_policy(tmp_path / "policy")
    return tmp_path


def train(mine: Path, callbacks: str) -> BaseProcess:
    """`train.py` on two processes, of which the first has all imported by now; what they say is in ``mine/output``."""
    given = (f"callbacks={callbacks}", f"policy.path={mine / 'policy'}", "trainer.devices=2", "trainer.max_epochs=3")
    arguments = ("--config-dir", str(mine), *SMALL, "callbacks.evaluation.problems=0", *given, f"hydra.run.dir={mine / 'run'}")
    return forked(command_line, ["train.py", *arguments], mine / "output")


def command_line(arguments: list[str]) -> None:
    sys.argv = arguments
    entry("train", "asym_lightning.run:train")


def test_a_rank_that_is_killed_ends_the_command(mine: Path) -> None:
    running = train(mine, "dies")
    running.join(FAR_S)
    said = (mine / "output").read_text()
    assert running.exitcode == 1, said
    told = "rank 1 has died (phase learn, iteration 1; killed by SIGKILL); rank 0 "
    summary = read_summary(mine / "run")
    assert summary is not None and summary["error"].startswith(told), said
    assert (summary["status"], summary["iterations"]) == ("failed", 1) and said.endswith(f"error: {summary['error']}\n")


def test_no_rank_outlives_a_command_that_is_killed(mine: Path) -> None:
    running = train(mine, "waits")
    until = time.monotonic() + FAR_S
    while "trouble" not in (mine / "output").read_text() and running.is_alive() and time.monotonic() < until:
        time.sleep(0.1)
    started = psutil.Process(running.pid).children(recursive=True)
    assert len(started) == 1, (mine / "output").read_text()
    running.kill()
    assert not psutil.wait_procs(started, timeout=FAR_S)[1], "a rank is left"


def test_no_verifying_process_outlives_a_rank_that_is_killed(tmp_path: Path) -> None:
    (tmp_path / "endless.py").write_text("def scorer():\n    def score(text, reference):\n        while True: pass\n    return score\n")
    program = "from asym_lightning.verify.pool import WorkerPool; WorkerPool('endless:scorer', {}, 1000.0, 1, 4.0).score([('', '')])"
    environment = os.environ | {"PYTHONPATH": f"{ROOT}:{tmp_path}"}
    running = subprocess.Popen([sys.executable, "-c", program], cwd=tmp_path, env=environment)
    until, workers = time.monotonic() + FAR_S, []
    while not any(worker.cpu_times().user > 0.2 for worker in workers) and running.poll() is None and time.monotonic() < until:
        workers = psutil.Process(running.pid).children()
        time.sleep(0.05)
    assert workers, "the worker has to be at work"
    running.kill()
    running.wait()
    assert not psutil.wait_procs(workers, timeout=FAR_S)[1], "a worker is left"


def start_others(folder: Path) -> None:
    sys.argv = [str(folder / "rank.py")]
    trainer = Trainer(accelerator="cpu", devices=2, strategy="ddp", logger=False, enable_checkpointing=False)
    watch_start(trainer, lambda text: (folder / "note").write_text(text) and None)
    trainer.strategy.launcher.launch(time.sleep, 1000)  # type: ignore[union-attr]


def test_a_rank_that_is_lost_before_it_finds_the_others_is_told(tmp_path: Path) -> None:
    (tmp_path / "rank.py").write_text("import os, signal; os.kill(os.getpid(), signal.SIGKILL)")
    running = forked(start_others, tmp_path, tmp_path / "output")
    running.join(FAR_S)
    told = (tmp_path / "note").read_text()
    assert told == "rank 1 ended with status -9 before the ranks had found each other"
    assert running.exitcode == 1 and (tmp_path / "output").read_text().endswith(f"error: {told}\n")


def test_a_process_given_a_parent_that_is_gone_ends() -> None:
    command = [sys.executable, "-c", "from asym_lightning.watch.parent import die_with_launcher; die_with_launcher(); print('lives')"]
    for parent, says in ((os.getpid(), "lives\n"), (psutil.Process().ppid(), "")):
        done = subprocess.run(command, cwd=ROOT, env=os.environ | {VARIABLE: str(parent)}, capture_output=True, text=True, check=False)
        assert done.stdout == says
