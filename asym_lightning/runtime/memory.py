"""Memory of the C library: keep freed blocks in the process."""

import ctypes
import platform

# Parameters of glibc's mallopt.
_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3


def keep_freed_memory() -> bool:
    """Make the C library keep freed blocks of up to 1 GiB for later allocations.

    By default it returns them to the system, which then creates their pages again for each
    allocation: on a CPU a large part of the time of tensors beyond some MiB. The peak of memory
    stays about the same.

    Returns:
        Whether both thresholds were set; only glibc has them.
    """
    if platform.libc_ver()[0] != "glibc":
        return False
    library = ctypes.CDLL(None)
    return bool(library.mallopt(_MMAP_THRESHOLD, 1 << 30)) and bool(
        library.mallopt(_TRIM_THRESHOLD, (1 << 31) - 1)
    )
