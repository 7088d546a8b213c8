"""What the process keeps of the memory that it frees."""

import ctypes
import platform

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # of glibc's mallopt


def keep_freed_memory() -> bool:
    """Have the C library keep freed blocks of up to 1 GiB for the next allocation instead of giving them back to the system, which has
    to make their pages anew each time: on a CPU that is a large part of the time of tensors beyond some MiB. Most memory held stays
    about the same. Returns whether it could be set; only glibc knows of it.
    """
    if platform.libc_ver()[0] != "glibc":
        return False
    library = ctypes.CDLL(None)
    return bool(library.mallopt(_MMAP_THRESHOLD, 1 << 30)) and bool(library.mallopt(_TRIM_THRESHOLD, (1 << 31) - 1))
