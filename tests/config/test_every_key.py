"""No key takes a value that it cannot mean."""

from collections.abc import Iterator
from typing import Any

import pytest
from hydra import compose, initialize_config_dir
from omegaconf import DictConfig, OmegaConf

from asym_lightning.config import preflight
from asym_lightning.runtime import config_dir
from asym_lightning.types import ConfigError

TEXT = {  # keys that a word is right for
    *("policy.path", "algo.name", "rollout.servers.folder", "rollout.servers.api_key_env", "policy.lora.target_modules"),
    *(f"callbacks.{name}.folder" for name in ("completions", "record", "policy")),
    *("callbacks.checkpoint.dirpath", "callbacks.checkpoint.filename", "callbacks.checkpoint.save_last"),
}
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


@pytest.mark.parametrize(("chosen", "within"), CHOICES, ids=lambda value: ",".join(value) if isinstance(value, list) else value)
def test_a_word_is_refused_where_it_means_nothing(chosen: list[str], within: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def not_asked(config: DictConfig) -> None:
        pass

    check_data, few = preflight.check_data, ["task.train_size=8", "task.heldout_size=4"]
    monkeypatch.setattr(preflight, "check_launcher", not_asked)  # it reads Hydra's own keys
    taken, keys = set(), 0
    with initialize_config_dir(str(config_dir()), version_base="1.3"):
        whole = compose("train", [*few, *chosen])
        for key in leaves(OmegaConf.to_container(whole)):  # type: ignore[arg-type]
            if not key.startswith(within) or key.startswith("logger.") or key in TEXT:
                continue
            keys += 1
            of_data = key.startswith(("data.", "task.", "benchmarks", "callbacks.evaluation.", "objective"))
            monkeypatch.setattr(preflight, "check_data", check_data if of_data else not_asked)  # it takes long
            try:
                config = whole.copy()
                OmegaConf.update(config, key, "blue")
                preflight.check_all([config])
                taken.add(key)
            except ConfigError as refused:
                assert key.rpartition(".")[2] in str(refused) or key.rpartition(".")[0] in str(refused), f"{key}: {refused}"
    assert not taken and keys > 5
