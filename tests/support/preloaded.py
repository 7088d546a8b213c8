"""Commands of this project, each in a process that is forked from one which has torch, Lightning and vLLM imported.

A fresh interpreter needs 6 to 10 s for these imports; a forked one starts at once. What the command sees is otherwise what a shell
gives it: its arguments, environment, working folder, import path, and signals; its output and errors go to one file. Variables that are
read while torch, transformers or vLLM are imported come too late, and all commands of a test process have one seed of string hashes.
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
    """The multiprocessing context whose processes are forked from the preloaded one, which starts with the first of them."""
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
        given = dict(os.environ if environment is None else environment)
        self._process = context().Process(target=_begin, args=(output, given, cwd, work, arguments))
        self._process.start()

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def returncode(self) -> int | None:
        return self._process.exitcode

    @property
    def output(self) -> str:
        """What the process, and those that it started, have written so far."""
        return self._output.read_text(errors="replace")

    def poll(self) -> int | None:
        return self._process.exitcode

    def wait(self, timeout: float) -> int:
        """The exit status.

        Raises:
            TimeoutExpired: the process did not end within so many seconds, and was killed.
        """
        self._process.join(timeout)
        if self._process.exitcode is None:
            self._process.kill()
            self._process.join()
            raise TimeoutExpired(f"process {self.pid}", timeout, self.output)
        return self._process.exitcode

    def wait_for(self, seen: Callable[[], bool], timeout: float) -> bool:
        """Wait until ``seen``, for as long as the process lives; whether it was seen."""
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
    """Wait for processes that run beside each other; their outputs.

    Raises:
        AssertionError: one ended with another status or not in time; all are ended, and the message has the end of every output.
    """
    until = time.monotonic() + timeout
    while any(process.poll() is None for process in running) and time.monotonic() < until:
        time.sleep(0.05)
    ended = [process.poll() for process in running]
    outputs = [process.output for process in running]
    if ended != list(statuses):
        for process in running:
            process.kill()
    assert ended == list(statuses), "\n".join(f"--- {status}\n{output[-5000:]}" for status, output in zip(ended, outputs, strict=True))
    return outputs


def kill_left() -> None:
    """End what a test has started and left."""
    while STARTED:
        STARTED.pop().kill()


def command(arguments: Sequence[str], **options: Any) -> Process:
    """Start ``python *arguments``: a script of the checkout, or ``-m`` and a module."""
    return Process(_run, list(arguments), **options)


def _begin(output: Path, environment: dict[str, str], cwd: Path, work: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
    file = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    for stream in (1, 2):
        os.dup2(file, stream)
    os.close(file)
    for stream_object in (sys.stdout, sys.stderr):
        stream_object.reconfigure(line_buffering=True)  # type: ignore[union-attr]
    die_with_parent()  # with the preloaded process, which ends when the tests do
    np.random.seed()  # a fork has its parent's state
    signal.signal(signal.SIGINT, signal.default_int_handler)  # even where the tests run in the background and ignore it
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(cwd)
    try:
        work(*arguments)
    finally:
        atexit._run_exitfuncs()  # a forked process leaves these out


def _run(arguments: list[str]) -> None:
    given = [path for path in os.environ.get("PYTHONPATH", "").split(os.pathsep) if path]
    sys.path[:] = [*given, *(path for path in sys.path if path.startswith((sys.prefix, sys.base_prefix)))]
    if arguments[0] == "-m":
        sys.path.insert(0, os.getcwd())
        sys.argv = arguments[1:]
        runpy.run_module(arguments[1], run_name="__main__", alter_sys=True)
    else:
        script = str(Path(arguments[0]).resolve())
        sys.path.insert(0, str(Path(script).parent))
        sys.argv = list(arguments)
        runpy.run_path(script, run_name="__main__")
