"""The policy that comes with the package."""

from pathlib import Path

from asym_lightning.runtime.resolvers import shipped

CHAIN = Path(shipped("chain"))
