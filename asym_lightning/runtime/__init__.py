"""The process around a run: its set-up, its ranks and their watch, its folder, the terminal."""

import os
import sys
import warnings
from pathlib import Path

PACKAGE = Path(__file__).resolve().parent.parent


def checkout() -> Path:
    """The folder of ``conf/`` and ``callbacks/``: the checkout, or a folder within an installed package."""
    installed = PACKAGE / "_checkout"
    return installed if installed.is_dir() else PACKAGE.parent


def config_dir() -> Path:
    """The folder of configs."""
    return checkout() / "conf"


def how_to_install(extra: str) -> str:
    """The command that installs an extra of pyproject.toml."""
    in_checkout = (checkout() / "pyproject.toml").is_file()
    return f"pip install -e '.[{extra}]' in the checkout" if in_checkout else f"pip install 'asym-lightning[{extra}]'"


def setup() -> None:
    """Prepare this process for a run. Every command calls it before it imports torch; a program that composes configs
    by itself calls it too. Further calls do nothing new."""
    # Read when torch is loaded. Threads of one operation wait for each other in a loop; with libgomp's own 300,000 turns
    # they keep another program's threads, and their own, from the core that these need: benchmarks/beside.py.
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", "10000")
    if str(checkout()) not in sys.path:
        sys.path.insert(0, str(checkout()))
    # conf/hydra/launcher/ gives values to the configs of plugins, which is all that this warning says.
    warnings.filterwarnings("ignore", message=r"\s*'hydra/launcher/\w+' is validated against ConfigStore schema")
    from asym_lightning.runtime.resolvers import register

    register()
