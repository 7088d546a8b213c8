"""What configs may interpolate: ``${run_name:...}`` and ``${shipped:...}``."""

import re
from hashlib import sha256

from omegaconf import OmegaConf

from asym_lightning.runtime import PACKAGE

LONGEST_NAME = 200  # file systems take 255


def run_name(algorithm: str, seed: int, swept: str) -> str:
    """The folder of a run within its sweep, such as ``grpo-seed1`` or ``grpo-seed1,policy.optimizer.learning_rate=1e-4``."""
    short = re.sub(r"\d+\.\d{7,}(e-?\d+)?", lambda number: f"{float(number[0]):.6g}", swept)
    name = re.sub(r"[^\w.,=@+~\[\]-]", "_", f"{algorithm}-seed{seed}" + (f",{short}" if short else ""), flags=re.ASCII)
    return name if len(name) <= LONGEST_NAME else f"{name[: LONGEST_NAME // 2]}-{sha256(swept.encode()).hexdigest()[:12]}"


def shipped(name: str) -> str:
    """The folder of the policy ``name`` that comes with the package, with its card (``card.json``)."""
    return str(PACKAGE / "assets" / name)


def register() -> None:
    """Make them known to OmegaConf in this process."""
    OmegaConf.register_new_resolver("run_name", run_name, replace=True)
    OmegaConf.register_new_resolver("shipped", shipped, replace=True)
