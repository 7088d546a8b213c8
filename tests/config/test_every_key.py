"""Every key refuses a value without a meaning."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hydra import compose, initialize_config_dir
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf

from asym_lightning.commands.sweeps import place
from asym_lightning.config import preflight
from asym_lightning.runtime import config_dir
from asym_lightning.runtime.run_folder import without_hydra
from asym_lightning.types import ConfigError

# Keys that take any word.
TEXT = {
    "policy.path",
    "policy.lora.target_modules",
    "algo.name",
    "rollout.servers.folder",
    "rollout.servers.api_key_env",
    *(f"callbacks.{name}.folder" for name in ("completions", "record", "policy")),
    *(f"callbacks.checkpoint.{key}" for key in ("dirpath", "filename", "save_last")),
}
OF_DATA = ("data.", "task.", "benchmarks", "callbacks.evaluation.", "objective")
CHOICES = [
    (["algo=asymgrpo"], ""),
    (["rollout=servers"], "rollout."),
    (["trainer=fsdp2", "trainer.accelerator=cpu"], "trainer."),
    (["trainer=deepspeed", "trainer.accelerator=cpu"], "trainer."),
    (["lora=default"], "policy."),
    (["correction=mis", "algo=asymgrpo_adaptive"], "algo."),
    (["algo=aepo"], "algo."),
    (["algo=dapo"], "algo."),
    (["algo=clip_cov"], "algo."),
]


def leaves(tree: dict[str, Any], above: str = "") -> Iterator[str]:
    for key, value in tree.items():
        if isinstance(value, dict):
            yield from leaves(value, f"{above}{key}.")
        elif not key.startswith("_"):
            yield f"{above}{key}"


@pytest.mark.parametrize(
    ("chosen", "within"),
    CHOICES,
    ids=lambda value: ",".join(value) if isinstance(value, list) else value,
)
def test_a_word_is_refused_where_it_means_nothing(
    chosen: list[str], within: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def not_asked(config: DictConfig) -> None:
        pass

    check_data, few = preflight.check_data, ["task.train_size=8", "task.heldout_size=4"]
    monkeypatch.setattr(preflight, "check_launcher", not_asked)  # it reads Hydra's own keys
    monkeypatch.setattr(HydraConfig.instance(), "cfg", None)  # it has the folder of the run
    taken, keys = set(), 0
    with initialize_config_dir(str(config_dir()), version_base="1.3"):
        default = compose("train", [*few, *chosen], return_hydra_config=True)
        place(default, tmp_path)
        default = without_hydra(default)
        for key in leaves(OmegaConf.to_container(default)):  # type: ignore[arg-type]
            if not key.startswith(within) or key.startswith("logger.") or key in TEXT:
                continue
            keys += 1
            # The check of the data takes long: it runs for keys that it reads.
            check = check_data if key.startswith(OF_DATA) else not_asked
            monkeypatch.setattr(preflight, "check_data", check)
            try:
                config = default.copy()
                OmegaConf.update(config, key, "blue")
                preflight.check_all([config])
                taken.add(key)
            except ConfigError as refused:
                parent, _, name = key.rpartition(".")
                assert name in str(refused) or parent in str(refused), f"{key}: {refused}"
    assert not taken and keys > 5
