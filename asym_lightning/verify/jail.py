"""Limits that the kernel enforces on a worker process: the jail of a scorer.

Imports nothing but the standard library. Run as a script, it tries itself out.

On Linux (x86_64 and arm64) a seccomp filter lists the system calls that a process which only
computes needs. Every other call fails with EPERM, for root as well: no file is opened for writing,
created, renamed or removed, no socket opened, no program or process started, no other process
signalled or traced. Threads stay possible. Landlock, where the kernel has it, leaves only the
folders of the interpreter and its packages readable: the trainer's environment (under /proc) and
keys in home folders are not. The filter is a BPF program of our own, installed through ctypes; the
one dependency that would save it, libseccomp, is not everywhere.
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
    "read": 0, "write": 1, "open": 2, "close": 3, "stat": 4, "fstat": 5, "lstat": 6, "poll": 7,
    "lseek": 8, "mmap": 9, "mprotect": 10, "munmap": 11, "brk": 12, "rt_sigaction": 13,
    "rt_sigprocmask": 14, "rt_sigreturn": 15, "ioctl": 16, "pread64": 17, "readv": 19,
    "writev": 20, "access": 21, "select": 23, "sched_yield": 24, "mremap": 25, "madvise": 28,
    "dup": 32, "dup2": 33, "nanosleep": 35, "getitimer": 36, "alarm": 37, "setitimer": 38,
    "getpid": 39, "clone": 56, "exit": 60, "uname": 63, "fcntl": 72, "getdents": 78, "getcwd": 79,
    "readlink": 89, "gettimeofday": 96, "getrlimit": 97, "getrusage": 98, "sysinfo": 99,
    "times": 100, "getuid": 102, "getgid": 104, "geteuid": 107, "getegid": 108, "getppid": 110,
    "sigaltstack": 131, "gettid": 186, "time": 201, "futex": 202, "sched_getaffinity": 204,
    "getdents64": 217, "set_tid_address": 218, "restart_syscall": 219, "fadvise64": 221,
    "clock_gettime": 228, "clock_getres": 229, "clock_nanosleep": 230, "exit_group": 231,
    "tgkill": 234, "openat": 257, "newfstatat": 262, "readlinkat": 267, "faccessat": 269,
    "pselect6": 270, "ppoll": 271, "set_robust_list": 273, "dup3": 292, "prlimit64": 302,
    "getrandom": 318, "membarrier": 324, "statx": 332, "rseq": 334, "clone3": 435, "openat2": 437,
    "faccessat2": 439, "seccomp": 317,
}  # fmt: skip
_ARM64 = {
    "getcwd": 17, "dup": 23, "dup3": 24, "fcntl": 25, "ioctl": 29, "faccessat": 48, "openat": 56,
    "close": 57, "getdents64": 61, "lseek": 62, "read": 63, "write": 64, "readv": 65,
    "writev": 66, "pread64": 67, "pselect6": 72, "ppoll": 73, "readlinkat": 78, "newfstatat": 79,
    "fstat": 80, "exit": 93, "exit_group": 94, "set_tid_address": 96, "futex": 98,
    "set_robust_list": 99, "nanosleep": 101, "getitimer": 102, "setitimer": 103,
    "clock_gettime": 113, "clock_getres": 114, "clock_nanosleep": 115, "sched_getaffinity": 123,
    "sched_yield": 124, "restart_syscall": 128, "tgkill": 131, "sigaltstack": 132,
    "rt_sigaction": 134, "rt_sigprocmask": 135, "rt_sigreturn": 139, "times": 153, "uname": 160,
    "getrlimit": 163, "getrusage": 165, "gettimeofday": 169, "getpid": 172, "getppid": 173,
    "getuid": 174, "geteuid": 175, "getgid": 176, "getegid": 177, "gettid": 178, "sysinfo": 179,
    "brk": 214, "munmap": 215, "mremap": 216, "clone": 220, "mmap": 222, "fadvise64": 223,
    "mprotect": 226, "madvise": 233, "prlimit64": 261, "seccomp": 277, "getrandom": 278,
    "membarrier": 283, "statx": 291, "rseq": 293, "clone3": 435, "openat2": 437,
    "faccessat2": 439,
}  # fmt: skip
_ARCHITECTURES = {"x86_64": (0xC000003E, _X86_64), "aarch64": (0xC00000B7, _ARM64)}
# Calls whose arguments are behind a pointer. Reported as missing: the C library then uses the older
# call.
_ABSENT = ("clone3", "openat2")
_PR_SET_DUMPABLE, _PR_SET_NO_NEW_PRIVS = 4, 38
_ALLOW, _ERRNO, _EPERM, _ENOSYS = 0x7FFF0000, 0x00050000, 1, 38
_LOAD, _AND, _EQUAL, _RETURN = 0x20, 0x54, 0x15, 0x06
_TMPFILE = getattr(os, "O_TMPFILE", 0) & ~getattr(os, "O_DIRECTORY", 0)
_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND | _TMPFILE
_CLONE_THREAD = 0x10000
_ALL = 0xFFFFFFFF
# create_ruleset, add_rule, restrict_self: the same numbers on all processors
_LANDLOCK = (444, 445, 446)
_READ_FILE, _READ_DIR = 1 << 2, 1 << 3
_SYSTEM_FOLDERS = (
    "/lib",
    "/lib64",
    "/usr/lib",
    "/usr/lib64",
    "/usr/local/lib",
    "/usr/share/zoneinfo",
    "/etc/ld.so.cache",
    "/dev/urandom",
)

# (number of a 32-bit word of the arguments, mask, value): word 2i is the lower half of argument i.
_Test = tuple[int, int, int]


def _conditions(pid: int) -> dict[str, list[list[_Test]]]:
    """Return the calls that are allowed only if all tests of one of their lists hold."""
    return {
        "open": [[(2, _WRITING, 0)]],
        "openat": [[(4, _WRITING, 0)]],
        "clone": [[(0, _CLONE_THREAD, _CLONE_THREAD)]],
        # abort() signals its own process.
        "tgkill": [[(0, _ALL, pid)]],
        # TCGETS (is it a terminal?) and FIOCLEX (close on exec).
        "ioctl": [[(2, _ALL, 0x5401)], [(2, _ALL, 0x5451)]],
        # Duplicates and flags of descriptors.
        "fcntl": [[(2, _ALL, command)] for command in (0, 1, 2, 3, 1030)],
        # The CPU limit of this process; reading any limit of it.
        "prlimit64": [
            [(0, _ALL, 0), (2, _ALL, 0)],
            [(0, _ALL, 0), (4, _ALL, 0), (5, _ALL, 0)],
        ],
    }


def _program(arch: int, numbers: dict[str, int], pid: int) -> bytes:
    """Return the seccomp filter: BPF instructions of (code, jump if true, jump if false, operand).

    Args:
        arch: the kernel's number of the processor; calls of another architecture fail.
        numbers: numbers of the allowed calls by name.
        pid: this process, the only one that it may signal.
    """
    conditions = _conditions(pid)
    code = [
        (_LOAD, 0, 0, 4),
        (_EQUAL, 1, 0, arch),
        (_RETURN, 0, 0, _ERRNO | _EPERM),
        (_LOAD, 0, 0, 0),
    ]
    for name, number in numbers.items():
        if name == "seccomp":
            continue
        block: list[tuple[int, int, int, int]] = []
        for tests in conditions.get(name, []):
            for left, (word, mask, value) in zip(range(len(tests), 0, -1), tests, strict=True):
                block += [
                    (_LOAD, 0, 0, 16 + 4 * word),
                    (_AND, 0, 0, mask),
                    (_EQUAL, 0, 3 * (left - 1) + 1, value),
                ]
            block.append((_RETURN, 0, 0, _ALLOW))
        if name in _ABSENT:
            end = _ERRNO | _ENOSYS
        elif name in conditions:
            end = _ERRNO | _EPERM
        else:
            end = _ALLOW
        block.append((_RETURN, 0, 0, end))
        code += [(_EQUAL, 0, len(block), number), *block]
    code.append((_RETURN, 0, 0, _ERRNO | _EPERM))
    return b"".join(struct.pack("=HBBI", *instruction) for instruction in code)


def _filter_calls(libc: Any) -> None:
    """Install the seccomp filter in all threads of this process.

    Raises ``OSError`` where the kernel refuses it, and ``KeyError`` on a processor that has no
    table of calls here.
    """
    arch, numbers = _ARCHITECTURES[platform.machine()]
    program = _program(arch, numbers, os.getpid())
    text = ctypes.create_string_buffer(program, len(program))
    instructions = len(program) // 8
    header = ctypes.create_string_buffer(struct.pack("@HP", instructions, ctypes.addressof(text)))
    if libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0):
        raise OSError(ctypes.get_errno(), "no_new_privs")
    # SECCOMP_SET_MODE_FILTER with SECCOMP_FILTER_FLAG_TSYNC: in every thread.
    if libc.syscall(numbers["seccomp"], 1, 1, header):
        raise OSError(ctypes.get_errno(), "seccomp is refused")


def _confine_reading(libc: Any, folders: Sequence[str]) -> bool:
    """Make only ``folders`` readable, by Landlock. Return whether the kernel did so."""
    create, add, restrict = _LANDLOCK
    version = libc.syscall(create, None, ctypes.c_size_t(0), ctypes.c_uint(1))
    if version < 1:
        return False
    # One bit for each kind of access that a version of Landlock knows.
    access_kinds = {1: 13, 2: 14}.get(version, 15)
    handled = (1 << access_kinds) - 1
    rules = libc.syscall(create, struct.pack("=Q", handled), ctypes.c_size_t(8), ctypes.c_uint(0))
    if rules < 0:
        return False
    for folder in folders:
        with suppress(OSError):
            at = os.open(folder, os.O_PATH | os.O_CLOEXEC)
            access = _READ_FILE | _READ_DIR if os.path.isdir(folder) else _READ_FILE
            libc.syscall(add, rules, 1, struct.pack("=Qi", access, at), ctypes.c_uint(0))
            os.close(at)
    done = (
        libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0
        and libc.syscall(restrict, rules, ctypes.c_uint(0)) == 0
    )
    os.close(rules)
    return done


def _limit(memory_bytes: int) -> None:
    """Limit the address space, and the size of files and core dumps to 0.

    Does nothing on Windows; macOS has no working RLIMIT_AS.
    """
    with suppress(ImportError):
        import resource

        for name, value in (("RLIMIT_AS", memory_bytes), ("RLIMIT_FSIZE", 0), ("RLIMIT_CORE", 0)):
            with suppress(AttributeError, ValueError, OSError):
                resource.setrlimit(getattr(resource, name), (value, value))


def close(memory_bytes: int) -> str:
    """Close the jail around this process; call it after the imports.

    Returns:
        "", or why the kernel's jail does not hold. In that case resource limits and an audit hook
        in the interpreter remain.
    """
    # Python caches the folder, for the trial in ``escapes``. It looks for the folder by writing a
    # file, which the limits would not permit later.
    with suppress(OSError):
        tempfile.gettempdir()
    _limit(memory_bytes)
    if sys.platform != "linux":
        _guard()
        return f"it needs Linux, and this is {platform.system() or sys.platform}"
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)
    libraries = os.environ.get("LD_LIBRARY_PATH", "").split(":")
    readable = [*sys.path, sys.prefix, sys.base_prefix, *libraries, *_SYSTEM_FOLDERS]
    _confine_reading(libc, [folder for folder in dict.fromkeys(readable) if folder])
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
    """Try actions that the jail forbids; return those that it did not stop, none if it holds.

    The actions: open a socket, start a process, create a file in the temporary folder.
    """
    import _socket

    def file() -> None:
        # Under a random name, which no other process can occupy in advance.
        tempfile.TemporaryFile().close()

    def process() -> None:
        child = os.fork()
        if child == 0:
            os._exit(0)
        os.waitpid(child, 0)

    def socket() -> None:
        _socket.socket().close()

    escaped = []
    for name, attempt in (("a file", file), ("a process", process), ("a socket", socket)):
        with suppress(OSError):
            attempt()
            escaped.append(name)
    return escaped


def _guard() -> None:
    """Fence the interpreter in by an audit hook, where the kernel's jail does not hold.

    It stops the calls of an injected Python expression, but no native code.
    """
    with suppress(ImportError, AttributeError, ValueError, OSError):
        import resource

        resource.setrlimit(resource.RLIMIT_NPROC, (0, 0))
    calls = (
        "system exec posix_spawn spawn startfile fork forkpty kill killpg remove rename mkdir "
        "rmdir link symlink truncate chmod chown utime putenv"
    )
    forbidden = {*(f"os.{name}" for name in calls.split()), "subprocess.Popen", "pty.spawn"}

    def guard(event: str, args: tuple[Any, ...]) -> None:
        writes = event == "open" and args[2] & _WRITING
        if event in forbidden or event.startswith(("socket.", "shutil.")) or writes:
            raise PermissionError(f"{event} is forbidden here")

    sys.addaudithook(guard)


@cache
def obstacle() -> str:
    """Return why the jail (seccomp, Landlock) does not hold on this machine, or "" if it does.

    This file, run as a program in a process of its own, tries it and prints the answer.
    """
    if sys.platform != "linux" or platform.machine() not in _ARCHITECTURES:
        system = platform.system() or sys.platform
        here = f"{system} on {platform.machine()}"
        return f"the jail needs Linux on x86_64 or arm64, and this is {here}"
    trial = subprocess.run(
        [sys.executable, "-I", __file__], capture_output=True, text=True, env={}, check=False
    )
    if trial.returncode != 0:
        return f"the trial of the jail ended with status {trial.returncode}"
    return trial.stdout.strip()


if __name__ == "__main__":
    print(close(1 << 32))
