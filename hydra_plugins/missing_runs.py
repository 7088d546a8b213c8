"""The default sweeper: Hydra's own, less the runs that are complete. Hydra takes plugins from this package alone."""

from typing import Any

from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from omegaconf import DictConfig, OmegaConf

AT_ONCE = 2  # of submitit_local, which starts every run that it is given


class MissingRuns(BasicSweeper):
    """Every combination of the swept values that is not complete yet: the others are neither started nor queued."""

    def setup(self, *, config: DictConfig, **given: Any) -> None:
        super().setup(config=config, **given)
        self.choice = config.hydra.runtime.choices["hydra/launcher"]
        if self.choice == "submitit_local":
            self.max_batch_size = self.max_batch_size or AT_ONCE

    def split_arguments(self, overrides: list[Any], max_batch_size: int | None) -> list[list[list[str]]]:  # type: ignore[override]
        from asym_lightning.commands.sweeps import check_same, locate

        assert self.config is not None and self.hydra_context is not None
        jobs, missing = super().split_arguments(overrides, None)[0], []
        if "job.num" in str(OmegaConf.to_container(self.config.hydra.sweep, resolve=False)):  # leaving one out would rename the others
            return list(self.split_overrides_to_chunks(jobs, max_batch_size))
        for number, job in enumerate(jobs):
            config = self.hydra_context.config_loader.load_sweep_config(self.config, job)
            folder = locate(config, number)
            if check_same(folder, config):
                print(f"{folder.name}: complete, left out", flush=True)
            else:
                missing.append(job)
        if missing and self.choice.startswith("submitit"):
            place = f"{self.config.hydra.sweep.dir}/.submitit/"
            print(f"{len(missing)} runs start by {self.choice}; what they print goes to {place}", flush=True)
        return list(self.split_overrides_to_chunks(missing, max_batch_size)) if missing else []
