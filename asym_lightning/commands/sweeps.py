"""Sweeps: the runs of a command with several jobs, their folders, and their start and report."""

import gc
import logging
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

from hydra.core.config_loader import ConfigLoader
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import IntervalSweep, Override
from omegaconf import DictConfig, open_dict, read_write

from asym_lightning.commands.hydra_patches import BASIC_SWEEPER, combinations
from asym_lightning.runtime.run_folder import (
    claim,
    complete,
    differences,
    in_progress,
    note_failure,
    objective,
    read_summary,
    set_aside,
    settings,
    why_incomplete,
)
from asym_lightning.runtime.watch.parent import VARIABLE, die_with_parent
from asym_lightning.types import ConfigError

log = logging.getLogger(__name__)
# Sweepers that run every combination of the swept values; the others search.
LISTED = (BASIC_SWEEPER, "hydra_plugins.missing_runs.MissingRuns")
# The name of a run's folder begins with the values of these keys, without the keys.
IN_FRONT = ("algo", "seed")


def quoted(text: object) -> str:
    """Quote any text for Hydra's command line.

    Backslashes directly before a quote are doubled, those before the closing quote included;
    Hydra reads others as they are.
    """
    inner = re.sub(r"(\\*)'", r"\1\1\\'", str(text))
    inner = re.sub(r"(\\+)$", r"\1\1", inner)
    return f"'{inner}'"


@dataclass
class Sweep:
    """The runs of a command.

    Args:
        jobs: the overrides of each run. A search chooses its values later; then these are a few
            jobs with the ends of the searched ranges.
        listed: whether ``jobs`` has every run.
        searched: the keys that vary, as dotted keys of the config.
        folder: the folder of the sweep.
        arguments: further arguments for Hydra: the keys that stay out of folder names, and the
            folder of the sweep.
        folders: the folder of each job, once its config is composed.
    """

    jobs: list[list[str]]
    listed: bool
    searched: list[str]
    folder: Path
    arguments: list[str]
    folders: list[Path] = field(default_factory=list)

    @classmethod
    def of(cls, master: DictConfig) -> "Sweep":
        """Make the sweep of a command from the config that Hydra composes of all its overrides.

        Raises:
            ConfigError: the command line sweeps over sweeps.
        """
        sweeper = master.hydra.sweeper
        params = [f"{key}={value}" for key, value in (sweeper.get("params") or {}).items()]
        texts = [*params, *master.hydra.overrides.task]
        overrides = OverridesParser.create().parse_overrides(texts)
        last = {override.get_key_element(): override for override in overrides}
        varying = [override for override in last.values() if override.is_sweep_override()]
        if any(override.key_or_group == "sweep" for override in varying):
            raise ConfigError(
                "sweep: name one file; further commands may use the same hydra.sweep.dir"
            )
        listed = sweeper._target_ in LISTED
        fixed = {o.key_or_group for o in last.values()} - {o.key_or_group for o in varying}
        excluded = ",".join(map(quoted, sorted(fixed | set(IN_FRONT))))
        arguments = [f"hydra.job.config.override_dirname.exclude_keys=[{excluded}]"]
        # The default contains the time, so that composing it again would give another folder.
        if not any(text.startswith("hydra.sweep.dir=") for text in master.hydra.overrides.hydra):
            arguments.append(f"hydra.sweep.dir={quoted(master.hydra.sweep.dir)}")
        return cls(
            jobs=combinations(overrides) if listed else _ends(last),
            listed=listed,
            searched=[o.package or o.key_or_group.replace("/", ".") for o in varying],
            folder=Path(master.hydra.sweep.dir),
            arguments=arguments,
        )

    def configs(self, loader: ConfigLoader, master: DictConfig) -> list[DictConfig]:
        """Compose the config of each of ``jobs``, as a launcher does."""
        master.hydra.overrides.hydra.extend(self.arguments)
        configs = [loader.load_sweep_config(master, job) for job in self.jobs]
        self.folders = [locate(config, number) for number, config in enumerate(configs)]
        return configs

    def check(self, configs: list[DictConfig]) -> None:
        """Check that the runs of this sweep can start in their folders.

        Raises:
            ConfigError: a run needs several nodes, two runs share a folder, or a folder holds a
                complete run of other settings or a run in progress.
        """
        wanted: dict[Path, dict[str, object]] = {}
        for number, (folder, config) in enumerate(zip(self.folders, configs, strict=True)):
            locate(config, number)
            if config.trainer.num_nodes != 1:
                raise ConfigError(
                    f"trainer.num_nodes={config.trainer.num_nodes}: "
                    "a run of a sweep stays on one node"
                )
            if self.listed:
                values = settings(config)
                if wanted.setdefault(folder, values) != values:
                    raise ConfigError(
                        f"two different runs would go to {folder}; "
                        "tell them apart by hydra.sweep.subdir=..."
                    )
                if in_progress(folder):
                    raise ConfigError(f"{folder}: another process is running this run")
                check_same(folder, config)
            else:  # a search may use any folder
                for other in folder.parent.glob("*/summary.json"):
                    check_same(other.parent, config, self.searched)

    def incomplete(self) -> dict[str, str]:
        """Return the names of the runs that are not complete, and why."""
        folders = self.folders
        if not self.listed:
            folders = sorted(path.parent for path in self.folder.glob("*/.hydra"))
        reasons = {folder.name: why_incomplete(folder) for folder in folders}
        return {name: " ".join(why.split()) for name, why in reasons.items() if why}

    def report(self) -> bool:
        """Print the runs that are not complete, a line each, and the file of a search's results.

        Returns:
            Whether a run is missing.
        """
        results = self.folder / "optimization_results.yaml"
        if not self.listed and results.exists():
            print(f"best values: {results}")
        missing = self.incomplete()
        if missing:
            print(
                f"error: {len(missing)} of this sweep's runs failed; "
                "the same command starts them again",
                file=sys.stderr,
            )
            print(*(f"  {name}: {why}" for name, why in missing.items()), sep="\n", file=sys.stderr)
        return bool(missing)


def _ends(last: dict[str, Override]) -> list[list[str]]:
    """A few jobs with both ends of every searched range, and with every choice."""

    def values(override: Override) -> list[str]:
        value = override.value()
        if isinstance(value, IntervalSweep):
            return [str(value.start), str(value.end)]
        if override.is_sweep_override():
            return list(override.sweep_string_iterator())
        return [override.get_value_element_as_str()]

    tried = {key: values(override) for key, override in last.items()}
    count = max(map(len, tried.values()), default=1)
    return [
        [f"{key}={texts[i % len(texts)]}" for key, texts in tried.items()] for i in range(count)
    ]


def locate(config: DictConfig, number: int) -> Path:
    """Set in ``config`` the values that Hydra sets when run ``number`` of a sweep starts.

    Returns:
        The folder of the run.
    """
    with read_write(config.hydra), open_dict(config.hydra):
        config.hydra.job.num = number
        config.hydra.job.id = str(number)
        HydraConfig.instance().set_config(config)
    folder = Path(config.hydra.sweep.dir, config.hydra.sweep.subdir).absolute()
    place(config, folder)
    return folder


def place(config: DictConfig, folder: Path) -> None:
    """Set in ``config`` the folder that Hydra sets when the run starts."""
    with read_write(config.hydra), open_dict(config.hydra):
        config.hydra.runtime.output_dir = str(folder)
    HydraConfig.instance().set_config(config)


def check_same(folder: Path, config: DictConfig, ignore: list[str] | None = None) -> bool:
    """Whether ``folder`` holds a complete run of these settings.

    Args:
        ignore: dotted keys that may differ.

    Raises:
        ConfigError: the folder holds a complete run of other settings.
    """
    summary = complete(folder)
    different = differences(summary["config"], config, ignore or ()) if summary else []
    if different:
        more = f", and {len(different) - 1} more" if len(different) > 1 else ""
        raise ConfigError(
            f"{folder} holds a complete run of other settings ({different[0]}{more}); "
            "name another hydra.sweep.dir"
        )
    return summary is not None


def run_in_sweep(
    train: Callable[[DictConfig], float], config: DictConfig, single: list[str]
) -> float | None:
    """Run a job of a sweep in a clean folder, unless its run is complete.

    The error of a failed run is printed and recorded, not raised.

    Args:
        train: the function that runs a config.
        single: the command that starts a single run.

    Returns:
        The objective of the run; None if it failed.
    """
    if "LOCAL_RANK" in os.environ:
        raise ConfigError(
            "a sweep starts the processes of its runs itself: "
            "start it without torchrun (LOCAL_RANK is set)"
        )
    # Workers of joblib would outlive a command that is killed.
    if multiprocessing.current_process().name != "MainProcess":
        die_with_parent()
    folder = Path(HydraConfig.get().runtime.output_dir)
    handler = signal.getsignal(signal.SIGINT)
    try:
        with claim(folder):
            if check_same(folder, config):
                log.info(f"{folder.name}: complete, left out")
                return objective(complete(folder) or {}, config)
            if moved := set_aside(folder):
                files = f"the files of an unfinished run are in {moved}"
                log.info(f"{folder.name}: starts anew; {files}")
            if config.trainer.devices == 1:
                return train(config)
            return _run_as_command(config, folder, single)
    # The next runs go on; Sweep.report names this one as failed, and the command ends with 1.
    except Exception:
        traceback.print_exc()
    finally:
        if threading.current_thread() is threading.main_thread():
            # A run that fails leaves its own handler.
            signal.signal(signal.SIGINT, handler)
    # Free the engine of the failed run.
    gc.collect()
    return None


def _run_as_command(config: DictConfig, folder: Path, single: list[str]) -> float | None:
    """Run a job on several devices as a separate command.

    If a rank fails the others hang, and no further run could use them.
    """
    overrides = HydraConfig.get().overrides
    search = [override for override in overrides.hydra if override.startswith("hydra.searchpath")]
    command = [*single, *search, *overrides.task]
    command += [f"hydra.run.dir={quoted(folder)}", "hydra.mode=RUN"]
    environment = os.environ | {VARIABLE: str(os.getpid())}
    if "SLURM_JOB_ID" in os.environ:
        # With this name Lightning starts the ranks itself in a job of Slurm too.
        environment = environment | {"SLURM_JOB_NAME": "interactive"}
    # In a session of its own, it gets the terminal's Ctrl-C only once, from this process.
    process = subprocess.Popen(command, env=environment, start_new_session=True)
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
    """Send Ctrl-C to the jobs of submitit on this machine.

    They outlive the process that started them, and may not have received it.
    """
    if "submitit" not in sys.modules:
        return
    import psutil

    for process in psutil.wait_procs(psutil.Process().children(), timeout=3)[1]:
        process.send_signal(signal.SIGINT)
