"""What can be seen of a process: whether it lives, and where its code is."""

import os
import platform
import signal
import sysconfig
from pathlib import Path
from types import FrameType

import psutil

WAITING = ("torch/distributed/", "torch/autograd/graph.py", "asym_lightning/ops/ranks.py", "lightning/fabric/utilities/distributed.py")
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
    """The innermost line of the project or the user, and whether a call that waits for other ranks is at the end of it."""
    waiting = frame is not None and any(part in frame.f_code.co_filename.replace(os.sep, "/") for part in WAITING)
    while frame is not None:
        file = frame.f_code.co_filename.replace(os.sep, "/")
        if not file.startswith(_LIBRARIES) or any(part in file for part in _OURS):
            return f"{'/'.join(file.split('/')[-2:])}:{frame.f_lineno} in {frame.f_code.co_name}", waiting
        frame = frame.f_back
    return "", waiting
