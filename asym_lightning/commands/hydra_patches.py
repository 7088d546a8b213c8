"""The private names of Hydra that this package uses."""

from argparse import Namespace
from collections.abc import Sequence
from typing import Any

from hydra._internal.utils import get_args_parser
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.types import Override
from hydra.utils import get_class

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
