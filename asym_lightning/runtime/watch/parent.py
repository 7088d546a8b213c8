"""Processes that end with their parent, even if the parent is killed.

Imports only the standard library.
"""

import ctypes
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

# Environment variable of a process that must end with its parent; the value is the parent's id.
VARIABLE = "ASYM_LIGHTNING_PARENT"
_PR_SET_PDEATHSIG = 1


def die_with_parent(parent: int | None = None) -> None:
    """Ask the kernel to kill this process when the thread that started it ends (Linux).

    Args:
        parent: id of the process that started this one. If that process has ended already, this one
            ends at once.
    """
    if sys.platform == "linux":
        parent = parent or os.getppid()
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, 9, 0, 0, 0)
        if os.getppid() != parent:
            os._exit(1)


@contextmanager
def children_end_with_parent() -> Iterator[None]:
    """Make processes of this package that are started within the context end with this process.

    They read its process id from the environment when they begin: :func:`die_with_launcher`.
    """
    os.environ[VARIABLE] = str(os.getpid())
    try:
        yield
    finally:
        os.environ.pop(VARIABLE, None)


def die_with_launcher() -> bool:
    """Call :func:`die_with_parent` if this package or torchrun started this process for a run.

    Returns whether this package started it.
    """
    # The children of this process must not inherit the variable.
    parent = os.environ.pop(VARIABLE, None)
    if parent is not None or "TORCHELASTIC_RUN_ID" in os.environ:
        die_with_parent(int(parent) if parent else None)
    return parent is not None
