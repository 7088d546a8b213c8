"""The default sweeper: Hydra's basic sweeper without the runs that are complete.

Hydra finds plugins only in the package ``hydra_plugins``.
"""

import logging
from typing import Any

from omegaconf import DictConfig, OmegaConf

from asym_lightning.commands.hydra_patches import basic_sweeper
from asym_lightning.runtime.log import show_messages

log = logging.getLogger(__name__)
# Runs at a time with submitit_local, which starts all runs of a batch at once.
AT_ONCE = 2


class MissingRuns(basic_sweeper()):  # type: ignore[misc]
    """Runs every combination of the swept values, except those with a complete run."""

    max_batch_size: int | None

    def setup(self, *, config: DictConfig, **context: Any) -> None:
        super().setup(config=config, **context)
        show_messages()  # Hydra has configured logging
        self.choice = config.hydra.runtime.choices["hydra/launcher"]
        if self.choice == "submitit_local":
            self.max_batch_size = self.max_batch_size or AT_ONCE

    def split_arguments(
        self, overrides: list[Any], max_batch_size: int | None
    ) -> list[list[list[str]]]:
        """Return batches of jobs, each job the overrides of a run."""
        from asym_lightning.commands.sweeps import check_same, locate

        jobs, missing = super().split_arguments(overrides, None)[0], []
        # Folders that are named by job number would change if a job were left out.
        if "job.num" in str(OmegaConf.to_container(self.config.hydra.sweep, resolve=False)):
            return list(self.split_overrides_to_chunks(jobs, max_batch_size))
        for number, job in enumerate(jobs):
            config = self.hydra_context.config_loader.load_sweep_config(self.config, job)
            folder = locate(config, number)
            if check_same(folder, config):
                log.info(f"{folder.name}: complete, left out")
            else:
                missing.append(job)
        if missing and self.choice.startswith("submitit"):
            place = f"{self.config.hydra.sweep.dir}/.submitit/"
            log.info(f"{len(missing)} runs start by {self.choice}; their output goes to {place}")
        return list(self.split_overrides_to_chunks(missing, max_batch_size)) if missing else []
