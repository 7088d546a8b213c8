"""OmegaConf resolvers for configs: ``${run_name:...}``, ``${shipped:...}``, ``${fetched:...}``."""

import os
import re
from hashlib import sha256
from pathlib import Path

from omegaconf import OmegaConf

from asym_lightning.runtime import PACKAGE

# Pretrained policies that learner/fetched.py fetches -> their folders in the cache.
FETCHED = {"smollm2": "smollm2-135m-instruct-b179c952"}
LONGEST_NAME = 200  # file systems take 255


def run_name(algorithm: str, seed: int, swept: str) -> str:
    """Return the name of a run's folder within its sweep.

    Examples: ``grpo-seed1`` and ``grpo-seed1,policy.optimizer.learning_rate=1e-4``.
    """
    short = re.sub(r"\d+\.\d{7,}(e-?\d+)?", lambda number: f"{float(number[0]):.6g}", swept)
    text = f"{algorithm}-seed{seed}" + (f",{short}" if short else "")
    name = re.sub(r"[^\w.,=@+~\[\]-]", "_", text, flags=re.ASCII)
    if len(name) <= LONGEST_NAME:
        return name
    return f"{name[: LONGEST_NAME // 2]}-{sha256(swept.encode()).hexdigest()[:12]}"


def shipped(name: str) -> str:
    """Return the folder of the policy ``name`` that the package ships, with its ``card.json``."""
    return str(PACKAGE / "assets" / name)


def cache_folder() -> Path:
    """Return the folder that policies are kept in which were made or fetched on first use."""
    return Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "asym-lightning"


def fetched(name: str) -> str:
    """Return the folder of the fetched policy ``name``, which need not exist yet."""
    return str(cache_folder() / FETCHED[name])


def register() -> None:
    """Register the resolvers with OmegaConf in this process."""
    OmegaConf.register_new_resolver("run_name", run_name, replace=True)
    OmegaConf.register_new_resolver("shipped", shipped, replace=True)
    OmegaConf.register_new_resolver("fetched", fetched, replace=True)
