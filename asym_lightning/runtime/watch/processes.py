"""What can be seen of a process: whether it lives, and where its code is."""

import os
import platform
import signal
import sysconfig
from pathlib import Path
from types import FrameType

import psutil

WAITING = (
    "torch/distributed/",
    "torch/nn/parallel/",
    "torch/autograd/graph.py",
    "asym_lightning/runtime/ranks.py",
    "lightning/fabric/utilities/distributed.py",
)
_LIBRARIES = (sysconfig.get_path("stdlib"), sysconfig.get_path("purelib"), sysconfig.get_path("platlib"), "<")
_OURS = ("/asym_lightning/", "/callbacks/")


def machine() -> str:
    """The same for processes that see each other by their ids: those of one system, but for containers."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip() + os.readlink("/proc/self/ns/pid")
    except OSError:
        return platform.node()


def ended(pid: int) -> str | None:
    """How a process of this machine ended, as far as this one may know; None while it runs."""
    try:
        child = os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        if child is None:
            return None
        status = child.si_status
        return f"it ended with status {status}" if child.si_code == os.CLD_EXITED else f"killed by {signal.Signals(status).name}"
    except (AttributeError, OSError, ValueError):  # no child of this process, or not on this system
        pass
    try:
        return "" if psutil.Process(pid).status() == psutil.STATUS_ZOMBIE else None
    except psutil.NoSuchProcess:
        return ""


def whereabouts(frame: FrameType | None) -> tuple[str, bool]:
    """Where a thread is: the innermost line of the project or the user, and what library it is in; and whether that is, or may be, a
    call that waits for other ranks."""
    if frame is None:
        return "", False
    inner, own = frame, frame
    while own.f_back is not None and not _own(own):
        own = own.f_back
    waiting = any(part in _file(inner) for part in WAITING)
    return _line(own) + (f" ({_line(inner)})" if own is not inner else ""), waiting


def _file(frame: FrameType) -> str:
    return frame.f_code.co_filename.replace(os.sep, "/")


def _own(frame: FrameType) -> bool:
    return not _file(frame).startswith(_LIBRARIES) or any(part in _file(frame) for part in _OURS)


def _line(frame: FrameType) -> str:
    return f"{'/'.join(_file(frame).split('/')[-2:])}:{frame.f_lineno} in {frame.f_code.co_name}"
