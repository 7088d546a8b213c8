"""Every key refuses a value without a meaning."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
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
from asym_lightning.verify import jail

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
# Endings of keys that take any word.
TEXT_OF_TASKS = (
    *(".split", ".subset", ".heldout_split"),
    *(".solution_column", ".instruction", ".system"),
)
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
FEW = ["task.train_size=8", "task.heldout_size=4"]
MATH = ["task=math", "task.path=FILE"]
TASKS = [
    (["task=chain", *FEW], "task."),
    (["task=reasoning_gym", "task.datasets={chain_sum: 1.0}", *FEW], "task."),
    (
        [
            *("task=mixture", "+task@task.sources.sums=countdown", "task.weights={sums: 1.0}"),
            *("task.sources.sums.train_size=8", "task.sources.sums.heldout_size=4"),
        ],
        "task.",
    ),
    (MATH, "task."),
    *(
        ([*MATH, f"verify@task.verify={name}"], "task.verify.")
        for name in ("exact", "choice", "number", "reasoning_gym", "composite")
    ),
    ([*MATH, "verify@task.verify=function", "task.verify.target=json:loads"], "task.verify."),
    (["benchmarks=[amc23]", "benchmarks.amc23.path=FILE", *FEW], "benchmarks."),
]


@contextmanager
def composed(chosen: Sequence[str], tmp_path: Path) -> Iterator[DictConfig]:
    """The config of these choices, with a file of problems in the place of FILE."""
    if any("reasoning_gym" in override for override in chosen):
        pytest.importorskip("reasoning_gym", reason="needs the package reasoning-gym")
    file = tmp_path / "problems.jsonl"
    file.write_text("".join(f'{{"problem": "1+{i}?", "answer": "{i + 1}"}}\n' for i in range(4)))
    given = [override.replace("FILE", str(file)) for override in chosen]
    few = [] if any(override.startswith("task=") for override in given) else FEW
    with initialize_config_dir(str(config_dir()), version_base="1.3"):
        config = compose("train", [*few, *given], return_hydra_config=True)
        place(config, tmp_path)
        yield without_hydra(config)


def leaves(tree: dict[str, Any], above: str = "") -> Iterator[str]:
    for key, value in tree.items():
        if isinstance(value, dict):
            yield from leaves(value, f"{above}{key}.")
        elif not key.startswith("_"):
            yield f"{above}{key}"


@pytest.mark.parametrize(
    ("chosen", "within"),
    CHOICES + TASKS,
    ids=lambda value: ",".join(value) if isinstance(value, list) else value,
)
def test_a_word_is_refused_where_it_means_nothing(
    chosen: list[str], within: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def not_asked(config: DictConfig) -> None:
        pass

    check_data = preflight.check_data
    monkeypatch.setattr(preflight, "check_launcher", not_asked)  # it reads Hydra's own keys
    monkeypatch.setattr(jail, "obstacle", lambda: "")
    monkeypatch.setattr(HydraConfig.instance(), "cfg", None)  # it has the folder of the run
    taken, keys = set(), 0
    with composed(chosen, tmp_path) as default:
        for key in leaves(OmegaConf.to_container(default)):  # type: ignore[arg-type]
            if not key.startswith(within) or key.startswith("logger.") or key in TEXT:
                continue
            if key.startswith(OF_DATA) and key.endswith(TEXT_OF_TASKS):
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
    assert not taken and keys > 0


@pytest.mark.parametrize(
    ("chosen", "within"),
    [(["task=countdown", *FEW], "data."), *TASKS],
    ids=lambda value: ",".join(value) if isinstance(value, list) else value,
)
def test_a_value_of_another_kind_is_refused(
    chosen: list[str], within: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Of the keys of data, tasks and verifiers; nothing is taken for a number that is none."""
    others: dict[type, tuple[Any, ...]] = {
        bool: (1, None, "true"),
        int: (True, 1.5, None, "3", []),
        float: (True, float("nan"), None, "3", []),
        str: (3, True, {"a": 1}),
    }
    monkeypatch.setattr(jail, "obstacle", lambda: "")
    taken, tried = set(), 0
    with composed(chosen, tmp_path) as default:
        for key in leaves(OmegaConf.to_container(default)):  # type: ignore[arg-type]
            if not key.startswith(within):
                continue
            for value in others.get(type(OmegaConf.select(default, key)), (True,)):
                tried += 1
                config = default.copy()
                OmegaConf.update(config, key, value)
                try:
                    preflight.check_data(config)
                    taken.add((key, str(value)))
                except ConfigError as refused:
                    said = str(refused)
                    assert said.startswith(f"{key}=") and "\n" not in said, f"{key}: {said}"
    assert not taken and tried > 0
