"""Processes that end with the one that started them, also where that one is killed. Imports nothing but the standard library."""

import ctypes
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

VARIABLE = "ASYM_LIGHTNING_PARENT"  # given to a process that is to end with the one that starts it: whose id it holds
_PR_SET_PDEATHSIG = 1


def die_with_parent(parent: int | None = None) -> None:
    """Let the kernel kill this process when the thread that started it ends (Linux).

    Args:
        parent: id of the process that started this one; if it has ended by now, so does this one.
    """
    if sys.platform == "linux":
        parent = parent or os.getppid()
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, 9, 0, 0, 0)
        if os.getppid() != parent:
            os._exit(1)


@contextmanager
def taking_along() -> Iterator[None]:
    """Processes of this package that are started within end with this one."""
    os.environ[VARIABLE] = str(os.getpid())
    try:
        yield
    finally:
        os.environ.pop(VARIABLE, None)


def die_with_launcher() -> None:
    """The same in a process that this package or torchrun started as a part of a run; in any other, nothing."""
    parent = os.environ.pop(VARIABLE, None)  # not for what this process starts
    if parent is not None or "TORCHELASTIC_RUN_ID" in os.environ:
        die_with_parent(int(parent) if parent else None)
