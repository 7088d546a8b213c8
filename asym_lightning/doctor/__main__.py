"""Check whether this machine is ready for a run.

Checks versions, devices, memory and disk, scores two answers in the jail, starts a rollout engine
and checks that changed weights reach it. Given a model, checks too that engine, policy and
transformers agree on it. Prints a line for each, `ok` or `problem` with what to do. Exit status 0
when all is ok, 1 otherwise.
"""

import argparse
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING

from asym_lightning.runtime import setup

if TYPE_CHECKING:
    from asym_lightning.doctor.machine import Finding


def findings(model: str | None = None) -> Iterator["Finding"]:
    """Yield the results of all checks; the slow checks come last.

    Args:
        model: folder or hub id of a model to try too.
    """
    import os
    import shutil
    from importlib.metadata import distributions, metadata
    from pathlib import Path

    import psutil
    import torch
    from packaging.utils import canonicalize_name

    from asym_lightning.doctor import machine, running
    from asym_lightning.doctor.model import check_model
    from asym_lightning.learner.embedded import cache_folder
    from asym_lightning.verify.math import MathVerifier

    installed: dict[str, str] = {
        canonicalize_name(d.metadata["Name"]): d.version for d in distributions()
    }
    # Written from pyproject.toml when the package was installed.
    package = metadata("asym-lightning")
    extras = [extra for name, extra in machine.ENGINES.items() if name in installed]
    yield machine.check_python(sys.version_info[:3], package["Requires-Python"])
    needed = machine.wanted(package.get_all("Requires-Dist") or [], extras)
    yield from machine.check_versions(needed, installed)
    yield from machine.check_engine_installed(sys.platform, installed)
    yield from machine.check_devices(*machine.devices(), torch.__version__)
    memory = psutil.virtual_memory()
    yield machine.check_memory(memory.available, memory.total)
    for name, path in (("runs", Path.cwd()), ("cache", cache_folder())):
        folder = machine.nearest_folder(path)
        free, writable = shutil.disk_usage(folder).free, os.access(folder, os.W_OK)
        yield machine.check_folder(name, path, free, writable=writable)
    yield machine.check_compiler(sys.platform, os.environ.get("CC"), shutil.which)
    yield machine.check_hub(os.environ, machine.reachable)
    yield machine.check_tensorboard()
    yield running.check_jail(MathVerifier(timeout_s=1.0, workers=2))
    yield from running.check_engine()
    if model is not None:
        yield check_model(model)


def main() -> int:
    """Print each finding as it comes; return the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m asym_lightning.doctor", description=" ".join((__doc__ or "").split())
    )
    parser.add_argument("model", nargs="?", help="folder or hub id of a model to try too")
    given = parser.parse_args()
    setup()
    from rich.console import Console
    from rich.text import Text

    console = Console(highlight=False, soft_wrap=True)
    problems = 0
    for finding in findings(given.model):
        word, style = ("ok", "green") if finding.ok else ("problem", "bold red")
        console.print(Text.assemble((f"{word:9}", style), f"{finding.name:13}{finding.seen}"))
        if finding.todo:
            console.print(Text(f"{'':9}what to do: {finding.todo}"))
        problems += not finding.ok
    total = f"{problems} problem{'s' if problems > 1 else ''}"
    console.print(total if problems else "all is ok")
    return 1 if problems else 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
