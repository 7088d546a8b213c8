"""The process of a run: set-up, ranks and their watchdog, run folder, terminal output."""

import os
import sys
import warnings
from pathlib import Path

PACKAGE = Path(__file__).resolve().parent.parent


def checkout() -> Path:
    """Return the folder of ``conf/`` and ``callbacks/``: the checkout, or one in the package."""
    installed = PACKAGE / "_checkout"
    return installed if installed.is_dir() else PACKAGE.parent


def config_dir() -> Path:
    """Return the folder of configs, ``conf/``."""
    return checkout() / "conf"


def how_to_install(extra: str) -> str:
    """Return the command that installs an extra of pyproject.toml."""
    if (checkout() / "pyproject.toml").is_file():
        return f"pip install -e '.[{extra}]' in the checkout"
    return f"pip install 'asym-lightning[{extra}]'"


def setup() -> None:
    """Prepare this process for a run; later calls only show messages again.

    Every command calls it before it imports torch. A program that composes configs without a
    command must call it too.
    """
    # libgomp reads this variable when torch is loaded. Threads of an operation wait for each other
    # in a loop. With libgomp's default of 300,000 turns they block a core that other threads, of
    # this or another program, need: benchmarks/beside.py.
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", "10000")
    if str(checkout()) not in sys.path:
        sys.path.insert(0, str(checkout()))
    # The warning says only that conf/hydra/launcher/ sets values in the configs of Hydra's plugins.
    warnings.filterwarnings(
        "ignore", message=r"\s*'hydra/launcher/\w+' is validated against ConfigStore schema"
    )
    from asym_lightning.runtime.log import show_messages
    from asym_lightning.runtime.resolvers import register

    show_messages()
    register()
