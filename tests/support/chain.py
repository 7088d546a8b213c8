"""The policy that comes with the package."""

from pathlib import Path

from asym_lightning.assets import shipped

CHAIN = Path(shipped("chain"))
