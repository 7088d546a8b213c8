"""The common part of all commands: Hydra, preflight, one-line errors, exit statuses.

Exit statuses: 0 done, 1 failed, 2 invalid configuration, 130 interrupted.
"""

import difflib
import os
import re
import signal
import sys
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from pkgutil import resolve_name
from typing import Any

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.utils import env_override
from hydra.errors import HydraException, OverrideParseException
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from asym_lightning.commands.hydra_patches import (
    VERSION_BASE,
    Application,
    application,
    command_line,
    forget_config,
    run_with,
)
from asym_lightning.commands.sweeps import Sweep, end_local_jobs, place, quoted, run_in_sweep
from asym_lightning.config import unknown_keys
from asym_lightning.runtime import config_dir, how_to_install, setup
from asym_lightning.runtime.watch.parent import die_with_launcher
from asym_lightning.types import ConfigError, EngineMismatchError


@dataclass(frozen=True)
class WorkerSetup:
    """A set-up of a process for a job.

    It is pickled with the job: a launcher's worker composes the config of a job before it calls the
    job, so that the worker must be set up when it unpickles this.

    Args:
        user_configs: the user's folder of configs, if any; it also holds the modules of their
            methods.
    """

    user_configs: Path | None

    def __call__(self) -> None:
        setup()
        if self.user_configs and sys.path[0] != str(self.user_configs):
            sys.path.insert(0, str(self.user_configs))

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self()


def entry(
    config_name: str, target: str, check: str = "asym_lightning.config.preflight:check_all"
) -> None:
    """Run a function on the config of the command line, after a check of the configs of all jobs.

    Errors of the command line or the config are printed in one line before Hydra makes a run
    directory.

    Args:
        target: ``module:function`` that runs a config.
        check: ``module:function`` that checks the configs of all jobs.
    """
    _check_local_rank(started_here=die_with_launcher())
    # Hydra must raise its errors, not print them.
    os.environ["HYDRA_FULL_ERROR"] = "1"
    arguments = command_line()
    user_configs = Path(arguments.config_dir).resolve() if arguments.config_dir else None
    if user_configs is not None and not user_configs.is_dir():
        _refuse(f"--config-dir {arguments.config_dir}: there is no such folder")
    prepare = WorkerSetup(user_configs)
    prepare()
    left_to_hydra = (
        *(arguments.help, arguments.cfg, arguments.info, arguments.hydra_help),
        *(arguments.shell_completion, arguments.experimental_rerun),
    )
    single = [sys.executable, os.path.abspath(sys.argv[0])]
    if user_configs:
        single += ["--config-dir", str(user_configs)]
    trains = config_name == "train"

    def main(config: DictConfig) -> Any:
        prepare()
        run = resolve_name(target)
        in_sweep = trains and HydraConfig.get().mode == RunMode.MULTIRUN
        return run_in_sweep(run, config, single) if in_sweep else run(config)

    try:
        if _ranks_started_outside():
            _check_common_folder(arguments.overrides)
        local_rank = os.environ.get("LOCAL_RANK")
        first = local_rank is None or (_ranks_started_outside() and local_rank == "0")
        sweep = None
        if not any(left_to_hydra):
            chosen, overrides = arguments.config_name or config_name, arguments.overrides
            with application(arguments.config_path or str(config_dir()), user_configs) as app:
                if first:
                    unknown_keys.check_choices(overrides, _config_folders(user_configs))
                config = None if arguments.multirun else _single_config(app, chosen, overrides)
                if config is not None:
                    if first:
                        _check_single(config, check)
                    run_with(app, config, main)
                    return
                if first:
                    sweep = _check_sweep(app, chosen, overrides, check=check, trains=trains)
        if sweep is not None:
            sys.argv = [*sys.argv, *sweep.arguments]
        decorated = hydra.main(str(config_dir()), config_name, version_base=VERSION_BASE)(main)
        _run(decorated, sweep)
    except (HydraException, OmegaConfBaseException) as error:
        _refuse(_readable(error, config_name, arguments.overrides, user_configs=user_configs))
    except ConfigError as error:
        _refuse(str(error))
    except EngineMismatchError as error:
        # The run has stopped; its message says what to do, and its summary keeps it.
        print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
        sys.exit(1)
    except BrokenPipeError:
        # The reader of the output has gone, as in `train.py | head`. Python would write again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(128 + signal.SIGPIPE)
    except KeyboardInterrupt:
        end_local_jobs()
        sys.exit(130)
    except SystemExit as stop:
        # After Ctrl-C Lightning exits with 1.
        sys.exit(130 if isinstance(stop.__context__, KeyboardInterrupt) else stop.code)


def _single_config(app: Application, config_name: str, overrides: list[str]) -> DictConfig | None:
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


def _run(main: Callable[[], Any], sweep: Sweep | None) -> None:
    try:
        main()
    except Exception:
        if sweep is None or not sweep.incomplete():
            raise
        # A launcher has lost a process, or a search has no value.
        traceback.print_exc()
    if sweep is not None and sweep.report():
        sys.exit(1)


def _config_folders(user_configs: Path | None) -> list[Path]:
    return [config_dir(), *([user_configs] if user_configs else [])]


def _check_single(config: DictConfig, check: str) -> None:
    """Check the config of a single run, which then has the folder of the run."""
    _check_missing(config)
    try:
        HydraConfig.instance().set_config(config)
        folder = Path(config.hydra.run.dir)
        _check_folder(folder)
        place(config, Path(os.path.abspath(folder)))
        # The run takes what the check builds, so that both have the job's environment.
        with env_override(config.hydra.job.env_set):
            resolve_name(check)([config])
    finally:
        forget_config()


def _check_sweep(
    app: Application, config_name: str, overrides: list[str], *, check: str, trains: bool
) -> Sweep | None:
    """Check the config of every run before the first run starts.

    Returns:
        The sweep, if its runs train.
    """
    master = app.compose_config(
        config_name, overrides, RunMode.MULTIRUN, with_log_configuration=False
    )
    sweep = Sweep.of(master)
    try:
        configs = sweep.configs(app.config_loader, master)
        for config in configs:
            _check_missing(config)
        resolve_name(check)(configs)
        if trains:
            sweep.check(configs)
    finally:
        forget_config()
    # An evaluation resumes in its folder by itself.
    return sweep if trains else None


def _ranks_started_outside() -> bool:
    """Whether torchrun or Slurm started the ranks, each with this command, not the trainer."""
    return "TORCHELASTIC_RUN_ID" in os.environ or int(os.environ.get("SLURM_NTASKS") or 1) > 1


def _check_local_rank(started_here: bool) -> None:
    """Drop a LOCAL_RANK that no launcher has set: this process would pass for one of several ranks.

    Args:
        started_here: a run of this package has started this process as one of its ranks.
    """
    local_rank = os.environ.get("LOCAL_RANK")
    if local_rank is None or started_here or _ranks_started_outside():
        return
    if local_rank != "0":
        _refuse(
            f"LOCAL_RANK={local_rank} is set, and neither torchrun nor Slurm has started this "
            "command: unset LOCAL_RANK, and take trainer.devices=N for several ranks"
        )
    del os.environ["LOCAL_RANK"]


def _check_common_folder(overrides: list[str]) -> None:
    if any(override.startswith("hydra.run.dir=") for override in overrides):
        return
    if os.environ.get("RANK", os.environ.get("SLURM_PROCID", "0")) != "0":
        sys.exit(2)  # rank 0 prints the error
    _refuse(
        "hydra.run.dir is not given: under torchrun and Slurm every rank would name another "
        "folder; add hydra.run.dir=logs/NAME"
    )


def _check_missing(config: DictConfig) -> None:
    """Refuse a config with an empty mandatory key (???); other parts have no such keys."""
    parts = ("algo", "policy", "task", "rollout", "trainer")
    missing = sorted(
        key for part in parts if part in config for key in OmegaConf.missing_keys(config[part])
    )
    if missing:
        _refuse(f"{missing[0]} has no value; set it on the command line: {missing[0]}=VALUE")


def _check_folder(folder: Path) -> None:
    if (folder / "metrics.csv").exists():
        _refuse(
            f"hydra.run.dir={folder}: another run is in there; name a new folder "
            "(to resume, also give ckpt_path=...)"
        )


def _refuse(message: str) -> None:
    print(f"error: {' '.join(message.split())}", file=sys.stderr)
    sys.exit(2)


def _unreadable(override: str) -> str:
    """Say which argument Hydra cannot read, and how to quote its value."""
    key, equals, value = override.partition("=")
    if not equals:
        return f"the argument {override} cannot be read: write KEY=VALUE"
    return (
        f"the argument {override} cannot be read: its value has a sign that Hydra's grammar gives "
        f'a meaning; quote it: "{key}={quoted(value)}"'
    )


def _readable(
    error: BaseException, config_name: str, overrides: list[str], user_configs: Path | None
) -> str:
    """Return Hydra's message in one line, with the nearest name for an unknown one."""
    if isinstance(error, OverrideParseException):
        return _unreadable(error.override)
    text = str(error)
    key = re.search(r"Could not override '([^']+)'", text)
    key = key or re.search(r"Key '([^']+)' is not in struct\s+full_key: (\S+)", text)
    if key:
        folders = _config_folders(user_configs)
        return unknown_keys.explain(key.group(1), config_name, overrides, folders)
    option = re.search(r"Could not (?:find|load) '([^']+)'", text)
    if not option:
        return text
    if option.group(1) == "hydra/sweeper/optuna":
        return (
            "hydra/sweeper=optuna needs hydra-optuna-sweeper, which is not installed: "
            f"{how_to_install('sweep')}"
        )
    group, _, name = option.group(1).rpartition("/")
    files = [file for f in _config_folders(user_configs) for file in (f / group).glob("*.yaml")]
    known = sorted(file.stem for file in files)
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    hint = f"; did you mean {group}={near[0]}?" if near else ""
    return f"unknown {group} '{name}'{hint} Known: {', '.join(known)}"
