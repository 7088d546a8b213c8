"""A rank that fails, dies or stands still: it ends the run, which names the rank and the place."""

import os
import re
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import psutil
import pytest
from lightning import Trainer

from asym_lightning.runtime.run_folder import read_summary
from asym_lightning.runtime.watch.launcher import watch_start
from asym_lightning.runtime.watch.parent import VARIABLE
from tests.support import ROOT, preloaded
from tests.support.runs import SMALL, few_problems, random_policy
from tests.support.watched import FAR_S, LIMIT_S, outcome

SAYS = {
    "fail": r"error: rank {} failed \(phase learn, iteration 1\): ValueError: boom; ",
    "die": r"error: rank {} has died \(phase learn, iteration 1\); ",
    "stall": r"error: rank {} stands still "
    r"\(phase learn, iteration 1, at support/watched\.py:\d+ in stall\): "
    rf"no rank has made progress for {LIMIT_S:g} s \(callbacks\.watchdog\.limit_s\); ",
    "freeze": r"error: rank {} stands still \(phase learn, iteration 1[^)]*\): .*; ",
}
LEAVES = {
    "fail": "ValueError: boom",
    "die": "",
    "stall": "in stall\n    time.sleep(0.1)",
    "freeze": "",
}
STATUS = {"fail": 1, "die": -signal.SIGKILL, "stall": 1, "freeze": -signal.SIGKILL}
# Combinations of trouble, rank and strategy that only the full suite tests.
REST = [
    ("fail", 0, "ddp"),
    ("fail", 1, "fsdp2"),
    ("die", 1, "ddp"),
    ("die", 1, "fsdp2"),
    ("stall", 1, "deepspeed"),
    ("stall", 0, "ddp"),
    ("stall", 1, "fsdp2"),
]


@pytest.mark.parametrize(
    ("trouble", "rank", "strategy"),
    [
        ("fail", 1, "ddp"),
        ("die", 0, "fsdp2"),
        ("die", 1, "deepspeed"),
        ("stall", 1, "ddp"),
        ("freeze", 1, "ddp"),
        *(pytest.param(*combination, marks=pytest.mark.full) for combination in REST),
    ],
)
def test_one_rank_in_trouble_ends_the_run_and_is_named(
    trouble: str, rank: int, strategy: str, tmp_path: Path
) -> None:
    ended = outcome(tmp_path, f"{trouble}-{rank}", strategy)
    place = r"(, at \S+ in \w+( \(\S+ in \w+\))?)?"
    waits = rf"rank {1 - rank} (waited|was) in learn, iteration 1{place}\n"
    reporter = 1 if (trouble, rank) == ("die", 0) else 0
    said = re.search(SAYS[trouble].format(rank) + waits, ended[reporter][1])
    assert said, ended
    assert ended[1 - rank][0] == 1, ended
    assert f"error: {(tmp_path / 'note').read_text()}\n" == said[0]
    assert ended[rank][0] == STATUS[trouble] and LEAVES[trouble] in ended[rank][1]


def test_a_single_process_that_stands_still_ends_and_shows_where(tmp_path: Path) -> None:
    [(status, output)] = outcome(tmp_path, "stall-0", world=1)
    assert status == 1 and LEAVES["stall"] in output
    place = r"phase learn, iteration 1, at support/watched\.py:\d+ in stall"
    assert re.search(rf"error: rank 0 stands still \({place}\): no progress for ", output)
    assert (tmp_path / "note").read_text().startswith("rank 0 stands still")


def test_an_interrupt_of_one_rank_ends_the_others(tmp_path: Path) -> None:
    ended = outcome(tmp_path, "interrupt-1")
    # Rank 1 has Lightning's status, 1, which the command line turns into 130.
    assert [status for status, _ in ended] == [130, 1]
    assert "error: rank 1 was interrupted (phase learn, iteration 1); rank 0 " in ended[0][1]


def test_a_rank_may_be_slow_at_the_start_while_it_makes_progress_and_at_the_end(
    tmp_path: Path,
) -> None:
    ended = outcome(tmp_path, "slow")
    assert [status for status, _ in ended] == [0, 0] and not (tmp_path / "note").exists(), ended


@pytest.fixture
def mine(tmp_path: Path) -> Path:
    """A folder with callbacks that kill or stop the second rank in the second iteration."""
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


def train(mine: Path, callbacks: str) -> preloaded.Process:
    """Start `train.py` on two processes; their output is in ``mine / "output"``."""
    overrides = (
        "callbacks.evaluation.problems=0",
        f"callbacks={callbacks}",
        f"policy.path={mine / 'policy'}",
        "trainer.devices=2",
        "trainer.max_epochs=3",
        f"hydra.run.dir={mine / 'run'}",
    )
    line = ["train.py", "--config-dir", str(mine), *SMALL, *few_problems(overrides), *overrides]
    return preloaded.command(line, output=mine / "output")


def test_a_rank_that_is_killed_ends_the_command(mine: Path) -> None:
    running = train(mine, "dies")
    status, said = running.wait(FAR_S), running.output
    assert status == 1, said
    told = "rank 1 has died (phase learn, iteration 1; killed by SIGKILL); rank 0 "
    summary = read_summary(mine / "run")
    assert summary is not None and summary["error"].startswith(told), said
    assert (summary["status"], summary["iterations"]) == ("failed", 1)
    assert said.endswith(f"error: {summary['error']}\n")


def test_no_rank_outlives_a_command_that_is_killed(mine: Path) -> None:
    running = train(mine, "waits")
    assert running.wait_for(lambda: "trouble" in running.output, FAR_S), running.output
    started = psutil.Process(running.pid).children(recursive=True)
    assert len(started) == 1, running.output
    running.kill()
    assert not psutil.wait_procs(started, timeout=FAR_S)[1], "a rank is left"


def test_no_verifying_process_outlives_a_rank_that_is_killed(tmp_path: Path) -> None:
    (tmp_path / "endless.py").write_text(
        "def scorer():\n"
        "    def score(text, reference):\n"
        "        while True: pass\n"
        "    return score\n"
    )
    program = (
        "from asym_lightning.verify.pool import WorkerPool; "
        "WorkerPool('endless:scorer', {}, 1000.0, 1, 4.0).score([('', '')])"
    )
    environment = os.environ | {"PYTHONPATH": f"{ROOT}:{tmp_path}"}
    running = subprocess.Popen([sys.executable, "-c", program], cwd=tmp_path, env=environment)
    until, workers = time.monotonic() + FAR_S, []
    while running.poll() is None and time.monotonic() < until:
        if any(worker.cpu_times().user > 0.2 for worker in workers):
            break
        workers = psutil.Process(running.pid).children()
        time.sleep(0.05)
    assert workers, "the worker has to be at work"
    running.kill()
    running.wait()
    assert not psutil.wait_procs(workers, timeout=FAR_S)[1], "a worker is left"


def start_others(folder: Path) -> None:
    sys.argv = [str(folder / "rank.py")]
    trainer = Trainer(
        accelerator="cpu", devices=2, strategy="ddp", logger=False, enable_checkpointing=False
    )
    watch_start(trainer, lambda text: (folder / "note").write_text(text) and None)
    trainer.strategy.launcher.launch(time.sleep, 1000)  # type: ignore[union-attr]


def test_a_rank_that_is_lost_before_it_finds_the_others_is_told(tmp_path: Path) -> None:
    (tmp_path / "rank.py").write_text("import os, signal; os.kill(os.getpid(), signal.SIGKILL)")
    running = preloaded.Process(start_others, tmp_path)
    status, told = running.wait(FAR_S), (tmp_path / "note").read_text()
    assert told == "rank 1 ended with status -9 before the ranks had found each other"
    assert status == 1 and running.output.endswith(f"error: {told}\n")


def test_a_process_given_a_parent_that_is_gone_ends() -> None:
    script = (
        "from asym_lightning.runtime.watch.parent import die_with_launcher; "
        "die_with_launcher(); print('lives')"
    )
    command = [sys.executable, "-c", script]
    for parent, says in ((os.getpid(), "lives\n"), (psutil.Process().ppid(), "")):
        done = subprocess.run(
            command,
            cwd=ROOT,
            env=os.environ | {VARIABLE: str(parent)},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.stdout == says
