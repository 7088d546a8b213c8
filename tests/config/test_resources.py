"""Memory and disk by arithmetic, and the trial of writing the policy, before anything is loaded."""

import shutil
from collections import namedtuple
from pathlib import Path
from typing import Any

import psutil
import pytest
from hydra import compose, initialize_config_dir
from omegaconf import DictConfig

from asym_lightning.config.engines import reason_of
from asym_lightning.config.resources import check_resources, check_writing, memory_of_rank
from asym_lightning.learner.embedded import byte_tokenizer
from asym_lightning.runtime import config_dir
from asym_lightning.types import ConfigError
from tests.support.models import build

Memory = namedtuple("Memory", "available")
Disk = namedtuple("Disk", "free")


def composed(*overrides: str) -> DictConfig:
    with initialize_config_dir(str(config_dir()), version_base="1.3"):
        return compose("train", [*overrides, "trainer.accelerator=cpu"])


@pytest.mark.parametrize(
    ("overrides", "gigabytes"),
    [
        ((), 16 + 4 + 1),  # policy with gradients and moments, engine, cache
        (("trainer.precision=bf16-mixed",), 16 + 2 + 1),
        (("rollout.kv_cache_gb=3",), 16 + 4 + 3),
        (("rollout=transformers", "rollout.kv_cache_gb=3"), 16 + 4),
        (("rollout=servers",), 16),
    ],
)
def test_memory_of_a_rank_by_hand(overrides: tuple[str, ...], gigabytes: int) -> None:
    assert memory_of_rank(composed(*overrides), 10**9, 10**9) == gigabytes * 1e9


def test_adapters_need_no_gradients_of_the_other_weights() -> None:
    assert memory_of_rank(composed("rollout=servers"), 10**9, 10**7) == 4e9 + 12e7


def test_too_little_memory_or_disk_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    config = composed()
    check_resources(config)
    monkeypatch.setattr(psutil, "virtual_memory", lambda: Memory(10**6))
    with pytest.raises(ConfigError, match=r"at least 1\.0 GB of memory .* 0\.0 GB are free"):
        check_resources(config)
    monkeypatch.undo()
    monkeypatch.setattr(shutil, "disk_usage", lambda path: Disk(10**3))
    with pytest.raises(ConfigError, match=r"one checkpoint and the policy take 0\.0 GB"):
        check_resources(config)
    config.callbacks.policy = config.callbacks.checkpoint = None
    check_resources(config)


def test_a_policy_that_cannot_be_written_is_refused(tmp_path: Path) -> None:
    build("qwen3").save_pretrained(tmp_path)
    tokenizer = byte_tokenizer()
    config = composed("policy=hf", f"policy.path={tmp_path}")
    check_writing(config, tokenizer)

    def refuse(*_: Any, **__: Any) -> None:
        raise ValueError("this tokenizer\ncannot be written")

    tokenizer.save_pretrained = refuse
    with pytest.raises(ConfigError, match=r"end of the run: this tokenizer cannot be written$"):
        check_writing(config, tokenizer)


@pytest.mark.parametrize(
    ("said", "shown"),
    [
        ("1 validation error\n  Value error, no such mode. [type=value_error, x]", "no such mode."),
        ("1 error\n Assertion failed, is required [type=assertion_error, x]", "is required"),
        (
            "['A'] are not supported. Supported architectures: dict_keys(['B'])",
            "are not supported.",
        ),
        ("plain\n words", "plain words"),
        ("", "RuntimeError"),
    ],
)
def test_the_words_of_vllm_come_without_their_frame(said: str, shown: str) -> None:
    assert reason_of(RuntimeError(said)).endswith(shown)
