"""The kernel's own limits on a worker process. Imports nothing but the standard library; run as a script it tries itself out.

On Linux (x86_64 and arm64) a seccomp filter lists the system calls that a process which only computes needs; everything else fails
with EPERM, for root as well: no file is opened for writing, made, renamed or removed, no socket opened, no program or process
started, no other process signalled or traced. Threads stay possible. Landlock, where the kernel has it, leaves only the folders of the
interpreter and its packages readable, so that the environment of the trainer (under /proc) and keys in home folders are not.
A BPF program of our own through ctypes: the one dependency that it would save, libseccomp, is not everywhere.
"""

import ctypes
import os
import platform
import struct
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from functools import cache
from typing import Any

_X86_64 = {
    "read": 0, "write": 1, "open": 2, "close": 3, "stat": 4, "fstat": 5, "lstat": 6, "poll": 7, "lseek": 8, "mmap": 9, "mprotect": 10,
    "munmap": 11, "brk": 12, "rt_sigaction": 13, "rt_sigprocmask": 14, "rt_sigreturn": 15, "ioctl": 16, "pread64": 17, "readv": 19,
    "writev": 20, "access": 21, "select": 23, "sched_yield": 24, "mremap": 25, "madvise": 28, "dup": 32, "dup2": 33, "nanosleep": 35,
    "getitimer": 36, "alarm": 37, "setitimer": 38, "getpid": 39, "clone": 56, "exit": 60, "uname": 63, "fcntl": 72, "getdents": 78,
    "getcwd": 79, "readlink": 89, "gettimeofday": 96, "getrlimit": 97, "getrusage": 98, "sysinfo": 99, "times": 100, "getuid": 102,
    "getgid": 104, "geteuid": 107, "getegid": 108, "getppid": 110, "sigaltstack": 131, "gettid": 186, "time": 201, "futex": 202,
    "sched_getaffinity": 204, "getdents64": 217, "set_tid_address": 218, "restart_syscall": 219, "fadvise64": 221, "clock_gettime": 228,
    "clock_getres": 229, "clock_nanosleep": 230, "exit_group": 231, "tgkill": 234, "openat": 257, "newfstatat": 262, "readlinkat": 267,
    "faccessat": 269, "pselect6": 270, "ppoll": 271, "set_robust_list": 273, "dup3": 292, "prlimit64": 302, "getrandom": 318,
    "membarrier": 324, "statx": 332, "rseq": 334, "clone3": 435, "openat2": 437, "faccessat2": 439, "seccomp": 317,
}  # fmt: skip
_ARM64 = {
    "getcwd": 17, "dup": 23, "dup3": 24, "fcntl": 25, "ioctl": 29, "faccessat": 48, "openat": 56, "close": 57, "getdents64": 61,
    "lseek": 62, "read": 63, "write": 64, "readv": 65, "writev": 66, "pread64": 67, "pselect6": 72, "ppoll": 73, "readlinkat": 78,
    "newfstatat": 79, "fstat": 80, "exit": 93, "exit_group": 94, "set_tid_address": 96, "futex": 98, "set_robust_list": 99,
    "nanosleep": 101, "getitimer": 102, "setitimer": 103, "clock_gettime": 113, "clock_getres": 114, "clock_nanosleep": 115,
    "sched_getaffinity": 123, "sched_yield": 124, "restart_syscall": 128, "tgkill": 131, "sigaltstack": 132, "rt_sigaction": 134,
    "rt_sigprocmask": 135, "rt_sigreturn": 139, "times": 153, "uname": 160, "getrlimit": 163, "getrusage": 165, "gettimeofday": 169,
    "getpid": 172, "getppid": 173, "getuid": 174, "geteuid": 175, "getgid": 176, "getegid": 177, "gettid": 178, "sysinfo": 179,
    "brk": 214, "munmap": 215, "mremap": 216, "clone": 220, "mmap": 222, "fadvise64": 223, "mprotect": 226, "madvise": 233,
    "prlimit64": 261, "seccomp": 277, "getrandom": 278, "membarrier": 283, "statx": 291, "rseq": 293, "clone3": 435, "openat2": 437,
    "faccessat2": 439,
}  # fmt: skip
_MACHINES = {"x86_64": (0xC000003E, _X86_64), "aarch64": (0xC00000B7, _ARM64)}
_ABSENT = ("clone3", "openat2")  # arguments behind a pointer: said to be missing, then the C library takes the older call
_PR_SET_DUMPABLE, _PR_SET_NO_NEW_PRIVS = 4, 38
_ALLOW, _ERRNO, _EPERM, _ENOSYS = 0x7FFF0000, 0x00050000, 1, 38
_LOAD, _AND, _EQUAL, _RETURN = 0x20, 0x54, 0x15, 0x06
_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND | (getattr(os, "O_TMPFILE", 0) & ~getattr(os, "O_DIRECTORY", 0))
_CLONE_THREAD = 0x10000
_ALL = 0xFFFFFFFF
_LANDLOCK = (444, 445, 446)  # create_ruleset, add_rule, restrict_self: the same numbers everywhere
_READ_FILE, _READ_DIR = 1 << 2, 1 << 3
_SYSTEM_FOLDERS = ("/lib", "/lib64", "/usr/lib", "/usr/lib64", "/usr/local/lib", "/usr/share/zoneinfo", "/etc/ld.so.cache", "/dev/urandom")

Test = tuple[int, int, int]
"""``(number of a 32-bit word of the arguments, mask, value)``: word 2i is the lower half of argument i."""


def _conditions(pid: int) -> dict[str, list[list[Test]]]:
    """Calls that are allowed only if all tests of one of the lists hold."""
    return {
        "open": [[(2, _WRITING, 0)]],
        "openat": [[(4, _WRITING, 0)]],
        "clone": [[(0, _CLONE_THREAD, _CLONE_THREAD)]],
        "tgkill": [[(0, _ALL, pid)]],  # abort() signals itself
        "ioctl": [[(2, _ALL, 0x5401)], [(2, _ALL, 0x5451)]],  # is it a terminal?, close on exec
        "fcntl": [[(2, _ALL, command)] for command in (0, 1, 2, 3, 1030)],  # duplicates and flags of descriptors
        "prlimit64": [[(0, _ALL, 0), (2, _ALL, 0)], [(0, _ALL, 0), (4, _ALL, 0), (5, _ALL, 0)]],  # own CPU limit; reading any
    }


def _program(arch: int, numbers: dict[str, int], pid: int) -> bytes:
    """The seccomp filter as BPF instructions of (code, jump if true, jump if false, operand)."""
    conditions = _conditions(pid)
    code = [(_LOAD, 0, 0, 4), (_EQUAL, 1, 0, arch), (_RETURN, 0, 0, _ERRNO | _EPERM), (_LOAD, 0, 0, 0)]
    for name, number in numbers.items():
        if name == "seccomp":
            continue
        block: list[tuple[int, int, int, int]] = []
        for tests in conditions.get(name, []):
            for left, (word, mask, value) in zip(range(len(tests), 0, -1), tests, strict=True):
                block += [(_LOAD, 0, 0, 16 + 4 * word), (_AND, 0, 0, mask), (_EQUAL, 0, 3 * (left - 1) + 1, value)]
            block.append((_RETURN, 0, 0, _ALLOW))
        end = _ERRNO | _ENOSYS if name in _ABSENT else _ERRNO | _EPERM if name in conditions else _ALLOW
        block.append((_RETURN, 0, 0, end))
        code += [(_EQUAL, 0, len(block), number), *block]
    code.append((_RETURN, 0, 0, _ERRNO | _EPERM))
    return b"".join(struct.pack("=HBBI", *instruction) for instruction in code)


def _filter_calls(libc: Any) -> None:
    """Install the filter in all threads. Raises ``OSError`` where the kernel refuses, ``KeyError`` on other processors."""
    arch, numbers = _MACHINES[platform.machine()]
    program = _program(arch, numbers, os.getpid())
    text = ctypes.create_string_buffer(program, len(program))
    header = ctypes.create_string_buffer(struct.pack("@HP", len(program) // 8, ctypes.addressof(text)))
    if libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0):
        raise OSError(ctypes.get_errno(), "no_new_privs")
    if libc.syscall(numbers["seccomp"], 1, 1, header):  # set a filter, in every thread
        raise OSError(ctypes.get_errno(), "seccomp is refused")


def _confine_reading(libc: Any, folders: Sequence[str]) -> bool:
    """Let only ``folders`` be read, by Landlock; whether the kernel has it."""
    create, add, restrict = _LANDLOCK
    version = libc.syscall(create, None, ctypes.c_size_t(0), ctypes.c_uint(1))
    if version < 1:
        return False
    handled = (1 << 13) - 1 if version == 1 else (1 << 14) - 1 if version == 2 else (1 << 15) - 1
    rules = libc.syscall(create, struct.pack("=Q", handled), ctypes.c_size_t(8), ctypes.c_uint(0))
    if rules < 0:
        return False
    for folder in folders:
        with suppress(OSError):
            at = os.open(folder, os.O_PATH | os.O_CLOEXEC)
            right = _READ_FILE | _READ_DIR if os.path.isdir(folder) else _READ_FILE
            libc.syscall(add, rules, 1, struct.pack("=Qi", right, at), ctypes.c_uint(0))
            os.close(at)
    done = libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 and libc.syscall(restrict, rules, ctypes.c_uint(0)) == 0
    os.close(rules)
    return done


def _limit(memory_bytes: int) -> None:
    """Address space, size of files and core dumps; nothing on Windows, and macOS has no working RLIMIT_AS."""
    with suppress(ImportError):
        import resource

        for name, value in (("RLIMIT_AS", memory_bytes), ("RLIMIT_FSIZE", 0), ("RLIMIT_CORE", 0)):
            with suppress(AttributeError, ValueError, OSError):
                resource.setrlimit(getattr(resource, name), (value, value))


def close(memory_bytes: int) -> str:
    """Shut this process in; call after the imports. Empty, or why the kernel's jail does not hold (limits and a guard then do)."""
    with suppress(OSError):
        tempfile.gettempdir()  # kept for the trial at the end; it is found by writing a file, which the limits would not let pass
    _limit(memory_bytes)
    if sys.platform != "linux":
        _guard()
        return f"it needs Linux, and this is {platform.system() or sys.platform}"
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)
    kept = [*sys.path, sys.prefix, sys.base_prefix, *os.environ.get("LD_LIBRARY_PATH", "").split(":"), *_SYSTEM_FOLDERS]
    _confine_reading(libc, [folder for folder in dict.fromkeys(kept) if folder])
    try:
        _filter_calls(libc)
    except KeyError:
        reason = f"it knows the processors x86_64 and arm64, and this is {platform.machine()}"
    except OSError as error:
        reason = f"the kernel refuses a seccomp filter ({error})"
    else:
        reason = "" if not escapes() else f"the kernel lets through: {', '.join(escapes())}"
    if reason:
        _guard()
    return reason


def escapes() -> list[str]:
    """What a jailed process should not be able to do and can: tries a socket, a process, a file in the temporary folder."""
    import _socket

    def file() -> None:
        tempfile.TemporaryFile().close()  # under a name of its own: nobody can put something else in its place

    def process() -> None:
        child = os.fork()
        if child == 0:
            os._exit(0)
        os.waitpid(child, 0)

    found = []
    for name, attempt in (("a file", file), ("a process", process), ("a socket", lambda: _socket.socket().close())):
        with suppress(OSError):
            attempt()
            found.append(name)
    return found


def _guard() -> None:
    """A fence in the interpreter, where the kernel gives none: stops what an injected Python expression would call, no native code."""
    with suppress(ImportError, AttributeError, ValueError, OSError):
        import resource

        resource.setrlimit(resource.RLIMIT_NPROC, (0, 0))
    calls = "system exec posix_spawn spawn startfile fork forkpty kill killpg remove rename mkdir rmdir link symlink truncate chmod chown"
    forbidden = {*(f"os.{name}" for name in [*calls.split(), "utime", "putenv"]), "subprocess.Popen", "pty.spawn"}

    def guard(event: str, args: tuple[Any, ...]) -> None:
        if event in forbidden or event.startswith(("socket.", "shutil.")) or (event == "open" and args[2] & _WRITING):
            raise PermissionError(f"{event} is forbidden here")

    sys.addaudithook(guard)


@cache
def obstacle() -> str:
    """Empty where the kernel's jail holds on this machine, else why not. Tried out once, in a process of its own."""
    if sys.platform != "linux" or platform.machine() not in _MACHINES:
        return f"it needs Linux on x86_64 or arm64, and this is {platform.system() or sys.platform} on {platform.machine()}"
    done = subprocess.run([sys.executable, "-I", __file__], capture_output=True, text=True, env={}, check=False)
    return done.stdout.strip() if done.returncode == 0 else f"the trial ended with status {done.returncode}"


if __name__ == "__main__":
    print(close(1 << 32))
