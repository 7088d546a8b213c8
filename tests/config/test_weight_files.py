"""Files of weights that are cut off, missing, or of another model are refused in one line."""

import json
from pathlib import Path

import pytest
import torch
from hydra import compose, initialize_config_dir
from omegaconf import DictConfig
from safetensors.torch import load_file, save_file

from asym_lightning.config.weight_files import check_checkpoint_fits, check_weight_files
from asym_lightning.learner.adapters import LoRASettings, add_adapters
from asym_lightning.learner.embedded import EmbeddedSettings, build_model, byte_tokenizer
from asym_lightning.runtime import config_dir
from asym_lightning.runtime.pretrained import load_model
from asym_lightning.types import ConfigError
from tests.support.runs import random_policy


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return random_policy(tmp_path / "model")


def composed(*overrides: str) -> DictConfig:
    with initialize_config_dir(str(config_dir()), version_base="1.3"):
        return compose("train", list(overrides))


def refusal(folder: Path) -> str:
    with pytest.raises(ConfigError) as error:
        check_weight_files(composed("policy=hf", f"policy.path={folder}"))
    assert "\n" not in str(error.value)
    return str(error.value)


def test_files_in_order_pass(folder: Path) -> None:
    check_weight_files(composed("policy=hf", f"policy.path={folder}"))
    check_weight_files(composed())
    load_model(str(folder), torch.float32)


def test_a_pointer_of_git_lfs_is_named(folder: Path) -> None:
    text = "version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 5\n"
    (folder / "model.safetensors").write_text(text)
    assert "git lfs pull" in refusal(folder)


def test_a_file_that_is_cut_off_is_named(folder: Path) -> None:
    weights = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(weights[:-100])
    assert "model.safetensors cannot be read" in refusal(folder)


def test_a_missing_shard_is_named(folder: Path) -> None:
    index = {"weight_map": {"a": "model.safetensors", "b": "model-00002-of-00002.safetensors"}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    assert "model-00002-of-00002.safetensors is missing, one of 2 files" in refusal(folder)


@pytest.mark.parametrize("change", ["missing", "shape"])
def test_weights_that_would_be_random_are_refused(change: str, folder: Path) -> None:
    file = folder / "model.safetensors"
    weights = load_file(file)
    name = next(name for name in weights if "down_proj" in name)
    if change == "missing":
        del weights[name]
    else:
        weights[name] = torch.zeros(3, 3)
    save_file(weights, file, metadata={"format": "pt"})
    with pytest.raises(
        ConfigError, match=name if change == "missing" else "cannot be loaded|shape"
    ):
        load_model(str(folder), torch.float32)


def test_a_folder_that_transformers_cannot_load_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "t5"}))
    with pytest.raises(ConfigError, match="cannot be loaded by transformers"):
        load_model(str(tmp_path), torch.float32)


def checkpoint(path: Path, lora: bool = False, layers: int | None = None) -> Path:
    settings = EmbeddedSettings() if layers is None else EmbeddedSettings(layers=layers)
    model = build_model(settings, byte_tokenizer())
    if lora:
        add_adapters(model, LoRASettings(r=4, alpha=8))
    state = {f"model.{name}": tensor for name, tensor in model.state_dict().items()}
    torch.save({"state_dict": state}, path)
    return path


def test_a_checkpoint_of_the_run_passes(tmp_path: Path) -> None:
    check_checkpoint_fits(composed(f"ckpt_path={checkpoint(tmp_path / 'a.ckpt')}"))
    own = checkpoint(tmp_path / "b.ckpt", lora=True)
    check_checkpoint_fits(composed(f"ckpt_path={own}", "lora=default", "policy.lora.r=4"))
    check_checkpoint_fits(composed())


@pytest.mark.parametrize(
    ("options", "overrides", "text"),
    [
        ({"lora": True}, (), "has adapters .* add lora=default"),
        ({}, ("lora=default",), r"has no adapters .* add policy\.lora=null"),
        ({"lora": True}, ("lora=default", "policy.lora.r=2"), "is of another model"),
        ({"layers": 1}, (), r"is of another model .*layers\.1\..* is absent there and"),
    ],
)
def test_a_checkpoint_of_another_model_is_refused(
    options: dict[str, bool], overrides: tuple[str, ...], text: str, tmp_path: Path
) -> None:
    path = checkpoint(tmp_path / "a.ckpt", **options)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match=text):
        check_checkpoint_fits(composed(f"ckpt_path={path}", *overrides))


@pytest.mark.parametrize("kept", [0, 3000])
def test_a_checkpoint_that_is_cut_off_is_refused(kept: int, tmp_path: Path) -> None:
    path = checkpoint(tmp_path / "a.ckpt")
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(ConfigError, match="cannot be read as a checkpoint"):
        check_checkpoint_fits(composed(f"ckpt_path={path}"))
