"""The state of processes and threads: whether a process lives, and where a thread's code is."""

import os
import platform
import signal
import sysconfig
from pathlib import Path
from types import FrameType

import psutil

# Paths of code that waits for other ranks.
WAITING = (
    "torch/distributed/",
    "torch/nn/parallel/",
    "torch/autograd/graph.py",
    "asym_lightning/runtime/ranks.py",
    "lightning/fabric/utilities/distributed.py",
)
_LIBRARIES = (
    sysconfig.get_path("stdlib"),
    sysconfig.get_path("purelib"),
    sysconfig.get_path("platlib"),
    "<",
)
_OURS = ("/asym_lightning/", "/callbacks/")


def machine() -> str:
    """Return an id of this system or container: processes with the same id share process ids."""
    try:
        boot_id = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return boot_id + os.readlink("/proc/self/ns/pid")
    except OSError:
        return platform.node()


def how_it_ended(pid: int) -> str | None:
    """Say how process ``pid`` of this machine ended, or None while it runs.

    The text is empty if the process has ended and is not a child of this one: only its parent can
    learn how. So compare with ``is None``.
    """
    try:
        # WNOWAIT only looks, and leaves the child to the code that waits for it.
        child = os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        if child is None:
            return None
        if child.si_code == os.CLD_EXITED:
            return f"ended with status {child.si_status}"
        return f"killed by {signal.Signals(child.si_status).name}"
    except (AttributeError, OSError, ValueError):
        # Not a child of this process, no waitid on this system, or a signal without a name.
        pass
    try:
        return "" if psutil.Process(pid).status() == psutil.STATUS_ZOMBIE else None
    except psutil.NoSuchProcess:
        return ""


def whereabouts(frame: FrameType | None) -> tuple[str, bool]:
    """Locate a thread by its innermost frame.

    Returns:
        The innermost line of project or user code, with the library line that it has called; and
        whether the thread is in, or may be in, a call that waits for other ranks.
    """
    if frame is None:
        return "", False
    project_frame = frame
    while project_frame.f_back is not None and not _in_project(project_frame):
        project_frame = project_frame.f_back
    waiting = any(part in _file(frame) for part in WAITING)
    library_line = f" ({_line(frame)})" if project_frame is not frame else ""
    return _line(project_frame) + library_line, waiting


def _file(frame: FrameType) -> str:
    return frame.f_code.co_filename.replace(os.sep, "/")


def _in_project(frame: FrameType) -> bool:
    """Whether a frame is in code of the project or the user, not of a library."""
    return not _file(frame).startswith(_LIBRARIES) or any(part in _file(frame) for part in _OURS)


def _line(frame: FrameType) -> str:
    return f"{'/'.join(_file(frame).split('/')[-2:])}:{frame.f_lineno} in {frame.f_code.co_name}"
