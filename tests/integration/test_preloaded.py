"""Commands forked from a preloaded process behave as a shell's.

They have the same arguments, environment, working folder, exit status and signals.
"""

import atexit
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.support import ROOT, preloaded

SCRIPT = """
import atexit, os, sys
atexit.register(lambda: print("at exit"))
variables = os.environ.get("GIVEN"), os.environ.get("HOME")
print(sys.argv, *variables, os.getcwd(), sys.path[0], __name__, "torch" in sys.modules)
os.system("echo from a child")
print("to stderr", file=sys.stderr)
sys.exit(int(sys.argv[1]))
"""


def test_a_command_sees_what_a_shell_gives_it(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    for status in (0, 2):
        process = preloaded.command(
            [str(script), str(status)], environment={"GIVEN": "yes"}, cwd=tmp_path
        )
        assert process.wait(100) == process.returncode == status
        assert process.output.splitlines() == [
            f"{[str(script), str(status)]} yes None {tmp_path} {tmp_path} __main__ True",
            *("from a child", "to stderr", "at exit"),
        ]


def fail() -> None:
    raise ValueError("boom")


def wait_for_interrupt(folder: Path) -> None:
    atexit.register((folder / "left").touch)
    try:
        (folder / "waits").touch()
        time.sleep(100)
    except KeyboardInterrupt:
        sys.exit(130)


def test_errors_and_signals_end_it() -> None:
    process = preloaded.Process(fail)
    assert process.wait(100) == 1 and process.output.endswith("ValueError: boom\n")


def test_an_interrupt_is_an_interrupt(tmp_path: Path) -> None:
    process = preloaded.Process(wait_for_interrupt, tmp_path)
    assert process.wait_for((tmp_path / "waits").exists, 100) and process.poll() is None
    process.send_signal(signal.SIGINT)
    assert process.wait(100) == 130 and (tmp_path / "left").exists()


def test_what_does_not_end_is_killed() -> None:
    process = preloaded.Process(time.sleep, 100)
    with pytest.raises(subprocess.TimeoutExpired):
        process.wait(0.5)
    assert process.returncode == -signal.SIGKILL


def test_deepspeed_is_imported_without_a_word() -> None:
    """Use a new interpreter: the preloaded process has imported DeepSpeed before."""
    pytest.importorskip("deepspeed", reason="needs the package deepspeed")
    code = (
        "from asym_lightning.learner.zero import DeepSpeed; DeepSpeed(3); "
        "import deepspeed; print('done')"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        env=os.environ,
        capture_output=True,
        text=True,
        timeout=100,
    )
    assert done.returncode == 0 and done.stdout == "done\n", done.stdout + done.stderr
    assert not re.search("deprecated|WARNING|UserWarning|nitializing", done.stderr), done.stderr
