"""The resident memory of this process: how high it stood since it was last asked."""

import resource
import sys
from pathlib import Path

_STATUS, _RESET = Path("/proc/self/status"), Path("/proc/self/clear_refs")


class HighWater:
    """``peak`` is the process's high-water mark of resident memory in MiB, nothing taken off.

    On Linux the kernel's mark (VmHWM) can be set back, so ``read`` gives the highest since the
    last ``reset``; elsewhere both are the mark of the whole process.
    """

    def __init__(self) -> None:
        self.peak = 0.0

    def read(self) -> float:
        now = _mark()
        self.peak = max(self.peak, now)
        return now

    def reset(self) -> None:
        self.read()
        if _RESET.exists():
            _RESET.write_text("5")


def _mark() -> float:
    if _STATUS.exists():
        return next(
            int(line.split()[1]) / 1024
            for line in _STATUS.read_text().splitlines()
            if line.startswith("VmHWM")
        )
    unit = 2**20 if sys.platform == "darwin" else 2**10
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit
