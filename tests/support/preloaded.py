"""Commands in processes that are forked from one with torch, Lightning and vLLM imported.

A fresh interpreter needs 6 to 10 s for these imports; a forked one starts at once. A command sees
all else as from a shell: arguments, environment, working folder, import path, signals. Its output
and errors go to one file. Two differences remain: variables that torch, transformers or vLLM read
at import come too late, and all commands of a test process have the same seed of string hashes.
"""

import atexit
import multiprocessing
import os
import runpy
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import chdir
from multiprocessing import forkserver
from pathlib import Path
from subprocess import TimeoutExpired
from typing import Any
from unittest.mock import patch

import numpy as np

from asym_lightning.runtime.watch.parent import die_with_parent
from tests.support import ROOT

ENVIRONMENT = dict(os.environ)  # before any test has changed it
STARTED: list["Process"] = []


def context() -> Any:
    """The multiprocessing context that forks processes from the preloaded one.

    The first process of it starts the preloaded one.
    """
    chosen = multiprocessing.get_context("forkserver")
    chosen.set_forkserver_preload(["tests.support.imported"])
    with chdir(ROOT), patch.dict(os.environ, ENVIRONMENT, clear=True):
        forkserver.ensure_running()
    return chosen


class Process:
    """``work(*arguments)`` in a forked process; its standard output and error go to a file.

    Args:
        output: the file; a temporary one unless given.
        environment: the process's environment; this one's unless given.
    """

    def __init__(
        self,
        work: Callable[..., Any],
        *arguments: Any,
        output: Path | None = None,
        environment: Mapping[str, str] | None = None,
        cwd: Path = ROOT,
    ) -> None:
        self._temporary = output is None
        if output is None:
            descriptor, name = tempfile.mkstemp(prefix="output-")
            os.close(descriptor)
            output = Path(name)
        output.touch()
        self._output = output
        STARTED.append(self)
        variables = dict(os.environ if environment is None else environment)
        begin_arguments = (output, variables, cwd, work, arguments)
        self._process = context().Process(target=_begin, args=begin_arguments)
        self._process.start()

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def returncode(self) -> int | None:
        return self._process.exitcode

    @property
    def output(self) -> str:
        """The output so far of the process and of its children."""
        return self._output.read_text(errors="replace")

    def poll(self) -> int | None:
        return self._process.exitcode

    def wait(self, timeout: float) -> int:
        """Wait for the end of the process, and return its exit status.

        Raises:
            TimeoutExpired: the process did not end within ``timeout`` seconds, and was killed.
        """
        self._process.join(timeout)
        if self._process.exitcode is None:
            self._process.kill()
            self._process.join()
            raise TimeoutExpired(f"process {self.pid}", timeout, self.output)
        return self._process.exitcode

    def wait_for(self, seen: Callable[[], bool], timeout: float) -> bool:
        """Wait until ``seen()`` is true, the process ends or time is over; return ``seen()``."""
        until = time.monotonic() + timeout
        while not seen() and self.poll() is None and time.monotonic() < until:
            time.sleep(0.1)
        return seen()

    def send_signal(self, kind: int) -> None:
        assert self.poll() is None, f"it has ended: {self.output}"
        os.kill(self.pid, kind)

    def kill(self) -> None:
        """Kill the process if it still runs, and forget its output."""
        if self._process.exitcode is None:
            self._process.kill()
            self._process.join()
        if self._temporary:
            self._output.unlink(missing_ok=True)


def finished(running: Sequence[Process], timeout: float, statuses: Sequence[int]) -> list[str]:
    """Wait for processes that run side by side, and return their outputs.

    Raises:
        AssertionError: a process ended with another status, or not in time. All are killed
            then, and the message has the end of every output.
    """
    until = time.monotonic() + timeout
    while any(process.poll() is None for process in running) and time.monotonic() < until:
        time.sleep(0.05)
    ended = [process.poll() for process in running]
    outputs = [process.output for process in running]
    if ended != list(statuses):
        for process in running:
            process.kill()
    pairs = zip(ended, outputs, strict=True)
    ends = [f"--- {status}\n{output[-5000:]}" for status, output in pairs]
    assert ended == list(statuses), "\n".join(ends)
    return outputs


def kill_left() -> None:
    """Kill the processes that a test has left running."""
    while STARTED:
        STARTED.pop().kill()


def command(arguments: Sequence[str], **options: Any) -> Process:
    """Start ``python *arguments``: a script of the checkout, or ``-m`` and a module."""
    return Process(_run, list(arguments), **options)


def _begin(
    output: Path,
    environment: dict[str, str],
    cwd: Path,
    work: Callable[..., Any],
    arguments: tuple[Any, ...],
) -> None:
    file = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    for stream in (1, 2):
        os.dup2(file, stream)
    os.close(file)
    for stream_object in (sys.stdout, sys.stderr):
        stream_object.reconfigure(line_buffering=True)  # type: ignore[union-attr]
    die_with_parent()  # the preloaded process, which ends when the tests do
    np.random.seed()  # a fork has its parent's state
    # Tests that run in the background ignore SIGINT; the command does not.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(cwd)
    try:
        work(*arguments)
    finally:
        atexit._run_exitfuncs()  # a forked process leaves these out


def _run(arguments: list[str]) -> None:
    python_path = [path for path in os.environ.get("PYTHONPATH", "").split(os.pathsep) if path]
    installed = [path for path in sys.path if path.startswith((sys.prefix, sys.base_prefix))]
    sys.path[:] = [*python_path, *installed]
    if arguments[0] == "-m":
        sys.path.insert(0, os.getcwd())
        sys.argv = arguments[1:]
        runpy.run_module(arguments[1], run_name="__main__", alter_sys=True)
    else:
        script = str(Path(arguments[0]).resolve())
        sys.path.insert(0, str(Path(script).parent))
        sys.argv = list(arguments)
        runpy.run_path(script, run_name="__main__")
