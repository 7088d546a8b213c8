"""What this package relies on in Hydra's private parts."""

import importlib
import sys
from pathlib import Path

import pytest
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from asym_lightning.commands import hydra_patches
from asym_lightning.runtime import config_dir


def test_the_basic_sweeper_is_hydras_default_also_after_a_search_for_plugins() -> None:
    module = importlib.import_module("hydra._internal.core_plugins.basic_sweeper")
    assert hydra_patches.basic_sweeper() is module.BasicSweeper
    importlib.reload(module)  # as Hydra does
    kind = type("Own", (hydra_patches.basic_sweeper(),), {})
    sweeper = kind(max_batch_size=2)
    assert isinstance(sweeper, module.BasicSweeper) and sweeper.max_batch_size == 2
    chunks = sweeper.split_overrides_to_chunks([["a"], ["b"], ["c"]], 2)
    assert list(chunks) == [[["a"], ["b"]], [["c"]]]


def test_combinations_are_the_jobs_of_a_sweep() -> None:
    overrides = OverridesParser.create().parse_overrides(["a=1,2", "b=3", "c=4,5"])
    jobs = hydra_patches.combinations(overrides)
    assert jobs == [[f"a={a}", "b=3", f"c={c}"] for a in (1, 2) for c in (4, 5)]


def test_command_line_has_hydras_flags(monkeypatch: pytest.MonkeyPatch) -> None:
    given = ["train.py", "-m", "--config-dir", "mine", "seed=1,2"]
    monkeypatch.setattr(sys, "argv", given)
    arguments = hydra_patches.command_line()
    assert arguments.multirun and arguments.config_dir == "mine"
    assert arguments.overrides == ["seed=1,2"]
    shown = (arguments.help, arguments.cfg, arguments.info, arguments.hydra_help)
    assert not any(shown)


def test_forget_config_leaves_hydra_as_in_a_new_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(HydraConfig.instance(), "cfg", OmegaConf.create({"hydra": {}}))
    assert HydraConfig.initialized()
    hydra_patches.forget_config()
    assert not HydraConfig.initialized()


def test_run_with_runs_a_composed_config_as_hydra_does(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "mine.yaml").write_text("defaults:\n  - train\n  - _self_\nseed: 5\n")
    folder, seen = tmp_path / "run", []

    def task(config: DictConfig) -> None:
        seen.append((config.seed, HydraConfig.get().runtime.output_dir))

    with hydra_patches.application(str(config_dir()), tmp_path / "mine") as app:
        options = {"with_log_configuration": False, "from_shell": False}
        config = app.compose_config("mine", [f"hydra.run.dir={folder}"], RunMode.RUN, **options)
        hydra_patches.run_with(app, config, task)
    assert seen == [(5, str(folder))] and not GlobalHydra.instance().is_initialized()
    assert {path.name for path in (folder / ".hydra").iterdir()} == {
        *("config.yaml", "hydra.yaml", "overrides.yaml")
    }
    hydra_patches.forget_config()
