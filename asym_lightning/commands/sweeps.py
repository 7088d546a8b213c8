"""Sweeps: the runs that a command asks for, where each one goes, and how each is started, left out or reported."""

import gc
import multiprocessing
import os
import re
import signal
import subprocess
import sys
import threading
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.config_loader import ConfigLoader
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import IntervalSweep, Override
from omegaconf import DictConfig, open_dict, read_write

from asym_lightning.runtime.run_folder import (
    claim,
    complete,
    differences,
    going_on,
    note_failure,
    objective,
    read_summary,
    set_aside,
    settings,
    why_incomplete,
)
from asym_lightning.runtime.watch.parent import VARIABLE, die_with_parent
from asym_lightning.types import ConfigError

LISTED = ("hydra._internal.core_plugins.basic_sweeper.BasicSweeper", "hydra_plugins.missing_runs.MissingRuns")
IN_FRONT = ("algo", "seed")  # a folder's name says these first and without their keys


def quoted(text: object) -> str:
    """A string as Hydra's command line takes it, whatever is in it."""
    return "'" + re.sub(r"(\\+)$", r"\1\1", re.sub(r"(\\*)'", r"\1\1\\'", str(text))) + "'"  # a backslash counts before a quote only


@dataclass
class Sweep:
    """What a command with several runs asks for.

    Args:
        jobs: the overrides of each run. A search chooses values as it goes; then these few hold the ends of what it searches.
        listed: whether ``jobs`` is every run.
        searched: the keys that vary, as dotted keys of the config.
        folder: the sweep's own folder.
        arguments: what Hydra is told beside the command line: which keys stay out of the folders' names, and the sweep's folder.
        folders: of each of ``jobs``, once its config is composed.
    """

    jobs: list[list[str]]
    listed: bool
    searched: list[str]
    folder: Path
    arguments: list[str]
    folders: list[Path] = field(default_factory=list)

    @classmethod
    def of(cls, master: DictConfig) -> "Sweep":
        """Read it off the config that Hydra composes of the whole command line.

        Raises:
            ConfigError: the command line sweeps over sweeps.
        """
        sweeper = master.hydra.sweeper
        given = [f"{key}={value}" for key, value in (sweeper.get("params") or {}).items()]
        overrides = OverridesParser.create().parse_overrides([*given, *master.hydra.overrides.task])
        last = {override.get_key_element(): override for override in overrides}
        varying = [override for override in last.values() if override.is_sweep_override()]
        if any(override.key_or_group == "sweep" for override in varying):
            raise ConfigError("sweep: name one file; further commands may add to the same hydra.sweep.dir")
        listed = sweeper._target_ in LISTED
        fixed = {o.key_or_group for o in last.values()} - {o.key_or_group for o in varying}
        arguments = [f"hydra.job.config.override_dirname.exclude_keys=[{','.join(map(quoted, sorted(fixed | set(IN_FRONT))))}]"]
        if not any(text.startswith("hydra.sweep.dir=") for text in master.hydra.overrides.hydra):
            arguments.append(f"hydra.sweep.dir={quoted(master.hydra.sweep.dir)}")  # it holds the time
        return cls(
            jobs=BasicSweeper.split_arguments(overrides, None)[0] if listed else _ends(last),
            listed=listed,
            searched=[o.package or o.key_or_group.replace("/", ".") for o in varying],
            folder=Path(master.hydra.sweep.dir),
            arguments=arguments,
        )

    def configs(self, loader: ConfigLoader, master: DictConfig) -> list[DictConfig]:
        """The config of each of ``jobs``, composed as a launcher does it."""
        master.hydra.overrides.hydra.extend(self.arguments)
        configs = [loader.load_sweep_config(master, job) for job in self.jobs]
        self.folders = [locate(config, number) for number, config in enumerate(configs)]
        return configs

    def check(self, configs: list[DictConfig]) -> None:
        """Nothing that this sweep starts may land on something else.

        Raises:
            ConfigError: a run needs several nodes, two runs share a folder, or a folder holds a complete run of other settings or one
                that is going on.
        """
        wanted: dict[Path, dict[str, object]] = {}
        for number, (folder, config) in enumerate(zip(self.folders, configs, strict=True)):
            locate(config, number)
            if config.trainer.num_nodes != 1:
                raise ConfigError(f"trainer.num_nodes={config.trainer.num_nodes}: a run of a sweep stays on one node")
            if self.listed:
                mine = settings(config)
                if wanted.setdefault(folder, mine) != mine:
                    raise ConfigError(f"two different runs would go to {folder}; tell them apart by hydra.sweep.subdir=...")
                if going_on(folder):
                    raise ConfigError(f"{folder}: another process is running this run")
                check_same(folder, config)
            else:  # a search may come to any folder
                for other in folder.parent.glob("*/summary.json"):
                    check_same(other.parent, config, self.searched)

    def incomplete(self) -> dict[str, str]:
        """The runs that are not complete now, and why."""
        folders = self.folders if self.listed else sorted(path.parent for path in self.folder.glob("*/.hydra"))
        return {folder.name: " ".join(why.split()) for folder in folders if (why := why_incomplete(folder))}

    def report(self) -> bool:
        """Say in a line each which runs are not complete and why, and where a search put what it found. True if any is missing."""
        found = self.folder / "optimization_results.yaml"
        if not self.listed and found.exists():
            print(f"best values: {found}")
        missing = self.incomplete()
        if missing:
            print(f"error: {len(missing)} of this sweep's runs failed; the same command starts them again", file=sys.stderr)
            print(*(f"  {name}: {why}" for name, why in missing.items()), sep="\n", file=sys.stderr)
        return bool(missing)


def _ends(last: dict[str, Override]) -> list[list[str]]:
    """A few jobs in which both ends of every searched range, and every choice, come up."""

    def values(override: Override) -> list[str]:
        given = override.value()
        if isinstance(given, IntervalSweep):
            return [str(given.start), str(given.end)]
        return list(override.sweep_string_iterator()) if override.is_sweep_override() else [override.get_value_element_as_str()]

    tried = {key: values(override) for key, override in last.items()}
    return [[f"{key}={found[i % len(found)]}" for key, found in tried.items()] for i in range(max(map(len, tried.values()), default=1))]


def locate(config: DictConfig, number: int) -> Path:
    """Tell ``config`` and its interpolations what Hydra tells them when run ``number`` of a sweep starts; its folder."""
    with read_write(config.hydra), open_dict(config.hydra):
        config.hydra.job.num = number
        config.hydra.job.id = str(number)
        HydraConfig.instance().set_config(config)
    folder = Path(config.hydra.sweep.dir, config.hydra.sweep.subdir).absolute()
    with read_write(config.hydra), open_dict(config.hydra):
        config.hydra.runtime.output_dir = str(folder)
    HydraConfig.instance().set_config(config)
    return folder


def check_same(folder: Path, config: DictConfig, ignore: list[str] | None = None) -> bool:
    """Whether ``folder`` holds this very run, complete.

    Raises:
        ConfigError: it holds a complete run of other settings.
    """
    summary = complete(folder)
    unlike = differences(summary["config"], config, ignore or ()) if summary else []
    if unlike:
        more = f", and {len(unlike) - 1} more" if len(unlike) > 1 else ""
        raise ConfigError(f"{folder} holds a complete run of other settings ({unlike[0]}{more}); name another hydra.sweep.dir")
    return summary is not None


def run_in_sweep(train: Callable[[DictConfig], float], config: DictConfig, single: list[str]) -> float | None:
    """One run of a sweep: left out if it is complete, else started in a clean folder. A failure is told and noted, not raised.

    Args:
        train: runs a config.
        single: the command that starts a single run.

    Returns:
        The run's objective; None where it failed.
    """
    if "LOCAL_RANK" in os.environ:
        raise ConfigError("a sweep starts the processes of its runs itself: start it without torchrun (LOCAL_RANK is set)")
    if multiprocessing.current_process().name != "MainProcess":  # joblib's workers would outlive a command that is killed
        die_with_parent()
    folder = Path(HydraConfig.get().runtime.output_dir)
    heed = signal.getsignal(signal.SIGINT)
    try:
        with claim(folder):
            if check_same(folder, config):
                print(f"{folder.name}: complete, left out", flush=True)
                return objective(complete(folder) or {}, config)
            if moved := set_aside(folder):
                print(f"{folder.name}: starts anew; what an unfinished run left is in {moved}", flush=True)
            return train(config) if config.trainer.devices == 1 else _run_apart(config, folder, single)
    except Exception:
        traceback.print_exc()
    finally:
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGINT, heed)  # a run that fails leaves its own handler
    gc.collect()  # the engine of the run that failed
    return None


def _run_apart(config: DictConfig, folder: Path, single: list[str]) -> float | None:
    """A run on several devices, as a command of its own: where one rank fails the others hang, and nothing more can be run with them."""
    given = HydraConfig.get().overrides
    search = [override for override in given.hydra if override.startswith("hydra.searchpath")]
    command = [*single, *search, *given.task, f"hydra.run.dir={quoted(folder)}", "hydra.mode=RUN"]
    # in a job of Slurm too it is Lightning that starts the ranks
    environment = os.environ | {VARIABLE: str(os.getpid())} | ({"SLURM_JOB_NAME": "interactive"} if "SLURM_JOB_ID" in os.environ else {})
    process = subprocess.Popen(command, env=environment, start_new_session=True)  # the terminal's Ctrl-C comes through here, once
    while True:
        try:
            status = process.wait()
            break
        except KeyboardInterrupt:
            process.send_signal(signal.SIGINT)
    if status == 130:
        raise KeyboardInterrupt
    if status and read_summary(folder) is None:
        note_failure(folder, config, f"its process ended with status {status}")
    return None if status else objective(complete(folder) or {}, config)


def end_local_jobs() -> None:
    """Pass Ctrl-C on to jobs of submitit on this machine, which outlive the process that started them and may not have got it."""
    if "submitit" not in sys.modules:
        return
    import psutil

    for process in psutil.wait_procs(psutil.Process().children(), timeout=3)[1]:
        process.send_signal(signal.SIGINT)
