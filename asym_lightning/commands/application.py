"""Hydra's application of a command, which composes the config of a single run once.

``hydra.main`` composes it once to learn whether there are several runs, and again for the run, and
the compose API once more for the checks before it. Here these are the steps of
``hydra._internal.utils._run_hydra``, with the same search path and the same ``Hydra.run``, so that
run folder, ``.hydra/``, logging and Hydra's callbacks are the same. Of Hydra's public API only
``hydra.main`` gives ``.hydra/hydra.yaml`` the provider of ``--config-dir``, hence the private one.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from hydra import version
from hydra._internal.hydra import Hydra
from hydra._internal.utils import create_automatic_config_search_path
from hydra.core.global_hydra import GlobalHydra
from hydra.core.utils import configure_log
from hydra.errors import HydraException
from hydra.types import RunMode, TaskFunction
from omegaconf import DictConfig, OmegaConf

VERSION_BASE = "1.3"
# hydra.main wraps a function of this module, and names its jobs by the last part.
MODULE = "asym_lightning.commands.cli"


@contextmanager
def application(config_path: str, user_configs: Path | None) -> Iterator[Hydra]:
    """Hydra's application with the folders of configs of a command; it ends with the context."""
    version.setbase(VERSION_BASE)
    search_path = create_automatic_config_search_path(None, MODULE, config_path)
    if user_configs is not None:
        search_path.prepend("command-line", f"file://{user_configs}", anchor="schema")
    try:
        yield Hydra.create_main_hydra2(MODULE.rpartition(".")[2], search_path)
    finally:
        GlobalHydra.instance().clear()


def single_config(app: Hydra, config_name: str, overrides: list[str]) -> DictConfig | None:
    """Compose the config of a single run; None if the command has several runs (``sweep=FILE``).

    Raises:
        HydraException: the overrides do not compose.
    """
    options: dict[str, Any] = {"with_log_configuration": False, "from_shell": False}
    try:
        config = app.compose_config(config_name, overrides, RunMode.RUN, **options)
    except HydraException:
        # A single run has no place for the values of a sweep.
        if app.get_mode(config_name, overrides) != RunMode.MULTIRUN:
            raise
        return None
    if config.hydra.mode == RunMode.MULTIRUN:
        return None
    if config.hydra.mode is None:
        # As Hydra's command does.
        config.hydra.mode = RunMode.RUN
        config.hydra.overrides.hydra.append("hydra.mode=RUN")
    return config


def run_with(app: Hydra, config: DictConfig, task: TaskFunction) -> None:
    """Run a task on a composed config, as ``Hydra.run`` does after it has composed one."""

    def composed(*_: Any, **__: Any) -> DictConfig:
        # HydraConfig, which the checks need, leaves it read-only; Hydra's callbacks may write.
        OmegaConf.set_readonly(config.hydra, False)
        configure_log(config.hydra.hydra_logging, config.hydra.verbose)
        return config

    app.compose_config = composed  # type: ignore[method-assign]
    app.run(config.hydra.job.config_name, task, [])
