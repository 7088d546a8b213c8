"""The private names of Hydra that this package uses."""

from argparse import Namespace
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from hydra import version
from hydra._internal.hydra import Hydra
from hydra._internal.utils import create_automatic_config_search_path, get_args_parser
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.types import Override
from hydra.core.utils import configure_log
from hydra.types import TaskFunction
from hydra.utils import get_class
from omegaconf import DictConfig, OmegaConf

VERSION_BASE = "1.3"
# hydra.main wraps a function of this module, and names its jobs by the last part.
MODULE = "asym_lightning.commands.cli"

# The `_target_` of Hydra's default sweeper.
BASIC_SWEEPER = "hydra._internal.core_plugins.basic_sweeper.BasicSweeper"


def basic_sweeper() -> Any:
    """Return the class of Hydra's default sweeper, which runs every combination of swept values.

    Needed to subclass it, since Hydra cannot leave out runs of a sweep that are complete, and its
    public ``Sweeper`` combines nothing. Hydra's search for plugins loads the class anew, so that it
    is looked up at each call.

    Upstream: https://github.com/hydra-ecosystem/hydra/issues/3328
    Versions: hydra-core~=1.3.2 (tried with 1.3.8)
    """
    return get_class(BASIC_SWEEPER)


def combinations(overrides: Sequence[Override]) -> list[list[str]]:
    """Return the jobs of a sweep as Hydra's default sweeper makes them: the overrides of each.

    Needed since all runs are checked before Hydra starts the first.

    Upstream: no issue found
    Versions: hydra-core~=1.3.2 (tried with 1.3.8)
    """
    return basic_sweeper().split_arguments(list(overrides), None)[0]


def command_line() -> Namespace:
    """Return this process's command line as Hydra parses it.

    Needed since ``hydra.main`` does not hand on its flags, and a command checks its configs before.

    Upstream: https://github.com/hydra-ecosystem/hydra/issues/1578
    Versions: hydra-core~=1.3.2 (tried with 1.3.8)
    """
    return get_args_parser().parse_args()


def forget_config() -> None:
    """Forget the config that was set last, as in a new process.

    Needed after a check of configs: ``clear`` of ``GlobalHydra`` leaves this one.

    Upstream: https://github.com/hydra-ecosystem/hydra/issues/3364
    Versions: hydra-core~=1.3.2 (tried with 1.3.8)
    """
    HydraConfig.instance().cfg = None


# Hydra's application of a command.
Application = Hydra


@contextmanager
def application(config_path: str, user_configs: Path | None) -> Iterator[Application]:
    """Hydra's application with the folders of configs of a command; it ends with the context.

    Needed to compose the config of a single run once. ``hydra.main`` composes it once to learn
    whether there are several runs and again for the run, and the compose API once more for the
    checks before it. Of the public API only ``hydra.main`` gives ``.hydra/hydra.yaml`` the provider
    of ``--config-dir``. The search path is that of Hydra's own command.

    Upstream: no issue found
    Versions: hydra-core~=1.3.2 (tried with 1.3.8)
    """
    version.setbase(VERSION_BASE)
    search_path = create_automatic_config_search_path(None, MODULE, config_path)
    if user_configs is not None:
        search_path.prepend("command-line", f"file://{user_configs}", anchor="schema")
    try:
        yield Application.create_main_hydra2(MODULE.rpartition(".")[2], search_path)
    finally:
        GlobalHydra.instance().clear()


def run_with(app: Application, config: DictConfig, task: TaskFunction) -> None:
    """Run a task on a composed config, as ``Hydra.run`` does after it has composed one.

    Needed since ``Hydra.run`` only takes overrides: run folder, ``.hydra/``, logging and Hydra's
    callbacks stay its own.

    Upstream: no issue found
    Versions: hydra-core~=1.3.2 (tried with 1.3.8)
    """

    def composed(*_: Any, **__: Any) -> DictConfig:
        # HydraConfig, which the checks need, leaves it read-only; Hydra's callbacks may write.
        OmegaConf.set_readonly(config.hydra, False)
        configure_log(config.hydra.hydra_logging, config.hydra.verbose)
        return config

    app.compose_config = composed  # type: ignore[method-assign]
    app.run(config.hydra.job.config_name, task, [])
