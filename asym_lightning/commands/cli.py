"""What every entry shares: Hydra, one-line errors, exit statuses (0 done, 2 bad configuration, 130 interrupted, 1 else)."""

import difflib
import os
import re
import sys
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import hydra
from hydra import compose, initialize_config_dir
from hydra._internal.utils import get_args_parser
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from asym_lightning.commands.sweeps import Sweep, end_local_jobs, run_in_sweep
from asym_lightning.config import unknown_keys
from asym_lightning.runtime import config_dir, how_to_install, setup
from asym_lightning.runtime.watch.parent import die_with_launcher
from asym_lightning.types import ConfigError


@dataclass(frozen=True)
class WorkerSetup:
    """Prepares a process for a job. It travels with the job: a launcher's worker composes the job's config before it
    calls the job, and is prepared when it unpickles this.

    Args:
        own: the user's folder of configs, if there is one; methods lie beside their YAML files there.
    """

    own: Path | None

    def __call__(self) -> None:
        setup()
        if self.own and str(self.own) not in sys.path:
            sys.path.insert(0, str(self.own))

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self()


def entry(config_name: str, target: str, check: str = "asym_lightning.config.preflight:check_all") -> None:
    """Run ``module:function`` of ``target`` on the composed config, after ``check`` has seen the configs of all jobs; everything that
    is wrong with the command line or the config is said in one line before Hydra makes a run directory."""
    die_with_launcher()
    os.environ["HYDRA_FULL_ERROR"] = "1"  # errors come to us, not to Hydra's printer
    arguments = get_args_parser().parse_args()
    module, function = target.split(":")
    own = Path(arguments.config_dir).resolve() if arguments.config_dir else None
    if own is not None and not own.is_dir():
        _refuse(f"--config-dir {arguments.config_dir}: there is no such folder")
    prepare = WorkerSetup(own)
    prepare()
    shown = arguments.help or arguments.cfg or arguments.info or arguments.hydra_help
    single = [sys.executable, os.path.abspath(sys.argv[0]), *(["--config-dir", str(own)] if own else [])]
    sweep: Sweep | None = None
    try:
        if _ranks_started_outside():
            _check_common_folder(arguments.overrides)
        first = "LOCAL_RANK" not in os.environ or (_ranks_started_outside() and os.environ["LOCAL_RANK"] == "0")
        if not shown and first:
            sweep = _preflight(config_name, arguments.overrides, arguments.multirun, own, check)
            sys.argv = [*sys.argv, *(sweep.arguments if sweep else [])]

        @hydra.main(version_base="1.3", config_path=str(config_dir()), config_name=config_name)
        def main(config: DictConfig) -> Any:
            prepare()
            run = getattr(import_module(module), function)
            several = config_name == "train" and HydraConfig.get().mode == RunMode.MULTIRUN
            return run_in_sweep(run, config, single) if several else run(config)

        _run(main, sweep)
    except (HydraException, OmegaConfBaseException) as error:
        _refuse(_readable(error, config_name, arguments.overrides, own))
    except ConfigError as error:
        _refuse(str(error))
    except KeyboardInterrupt:
        end_local_jobs()
        sys.exit(130)
    except SystemExit as stop:
        sys.exit(130 if isinstance(stop.__context__, KeyboardInterrupt) else stop.code)  # Lightning exits with 1


def _run(main: Callable[[], Any], sweep: Sweep | None) -> None:
    try:
        main()
    except Exception:
        if sweep is None or not sweep.incomplete():
            raise
        traceback.print_exc()  # a launcher that lost a process, a search without a single value
    if sweep is not None and sweep.report():
        sys.exit(1)


def _preflight(config_name: str, overrides: list[str], multirun: bool, own: Path | None, check: str) -> Sweep | None:
    """Check the config of every run before the first of them starts; the sweep, if there are several training runs."""
    unknown_keys.check_choices(overrides, [config_dir(), *([own] if own else [])])
    search = [f"hydra.searchpath=[file://{own}]"] if own else []
    with initialize_config_dir(str(config_dir()), version_base="1.3"):
        app = GlobalHydra.instance().hydra
        assert app is not None
        sweep = None
        if multirun or app.get_mode(config_name, [*search, *overrides]) == RunMode.MULTIRUN:
            master = app.compose_config(config_name, [*search, *overrides], RunMode.MULTIRUN, with_log_configuration=False)
            sweep = Sweep.of(master)
            configs = sweep.configs(app.config_loader, master)
        else:
            configs = [compose(config_name, [*search, *overrides], return_hydra_config=True)]
    for config in configs:
        _check_missing(config)
    if sweep is None:
        _check_folder(Path(configs[0].hydra.run.dir))
    GlobalHydra.instance().clear()
    module, function = check.split(":")
    getattr(import_module(module), function)(configs)
    if sweep is not None and config_name == "train":
        sweep.check(configs)
    HydraConfig.instance().cfg = None
    return sweep if config_name == "train" else None  # an evaluation takes up what is in its folder by itself


def _ranks_started_outside() -> bool:
    """Whether torchrun or Slurm started the ranks, each with this command line; else the trainer starts them."""
    return "TORCHELASTIC_RUN_ID" in os.environ or int(os.environ.get("SLURM_NTASKS", "1")) > 1


def _check_common_folder(overrides: list[str]) -> None:
    if any(override.startswith("hydra.run.dir=") for override in overrides):
        return
    if os.environ.get("RANK", os.environ.get("SLURM_PROCID", "0")) != "0":
        sys.exit(2)  # the first rank says it
    _refuse("hydra.run.dir is not given: under torchrun and Slurm every rank would name another folder; add hydra.run.dir=logs/NAME")


def _check_missing(config: DictConfig) -> None:
    parts = ("algo", "policy", "task", "rollout", "trainer")
    missing = sorted(key for part in parts if part in config for key in OmegaConf.missing_keys(config[part]))
    if missing:
        _refuse(f"{missing[0]} has no value; give one, for instance {missing[0]}=VALUE")


def _check_folder(folder: Path) -> None:
    if (folder / "metrics.csv").exists():
        _refuse(f"hydra.run.dir={folder}: another run is in there; name a new folder (to resume, also give ckpt_path=...)")


def _refuse(message: str) -> None:
    print(f"error: {' '.join(message.split())}", file=sys.stderr)
    sys.exit(2)


def _readable(error: BaseException, config_name: str, overrides: list[str], own: Path | None) -> str:
    """Hydra's message in one line, with the nearest name where one was not found."""
    text = str(error)
    key = re.search(r"Could not override '([^']+)'", text) or re.search(r"Key '([^']+)' is not in struct\s+full_key: (\S+)", text)
    if (key and "not in struct" in f"{text} {error.__cause__}") or (key and "Could not override" in text):
        name = key.group(1)
        return unknown_keys.explain(name, config_name, overrides, [config_dir(), *([own] if own else [])])
    option = re.search(r"Could not (?:find|load) '([^']+)'", text)
    if option:
        group, _, name = option.group(1).rpartition("/")
        if option.group(1) == "hydra/sweeper/optuna":
            return f"hydra/sweeper=optuna needs hydra-optuna-sweeper, which is not installed: {how_to_install('sweep')}"
        known = sorted(path.stem for folder in (config_dir(), own) if folder for path in (folder / group).glob("*.yaml"))
        near = difflib.get_close_matches(name, known, 1, 0.5)
        hint = f"; did you mean {group}={near[0]}?" if near else ""
        return f"unknown {group} '{name}'{hint} Known: {', '.join(known)}"
    return text
