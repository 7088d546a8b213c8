"""Files of weights in a config, read before anything is loaded: a model's, and a checkpoint's."""

import json
import pickle
from pathlib import Path

import torch
from omegaconf import DictConfig
from safetensors import SafetensorError, safe_open

from asym_lightning.config.loading import settings_of
from asym_lightning.config.model import skeleton
from asym_lightning.learner.adapters import LoRASettings, add_adapters
from asym_lightning.types import ConfigError

_POINTER = b"version https://git-lfs"
_INDEX = "model.safetensors.index.json"


def check_weight_files(config: DictConfig) -> None:
    """Check that the files of the policy's weights are complete and can be read.

    A model of the hub has no folder yet; transformers checks what it downloads.

    Raises:
        ConfigError: a file is missing, cut off, or a pointer of Git LFS.
    """
    path = config.policy.path
    if path is None or not Path(path).is_dir():
        return
    folder, key = Path(path), f"policy.path={path}"
    if (folder / _INDEX).is_file():
        named = set(json.loads((folder / _INDEX).read_text())["weight_map"].values())
        missing = sorted(name for name in named if not (folder / name).is_file())
        if missing:
            raise ConfigError(
                f"{key}: {missing[0]} is missing, one of {len(named)} files with weights that "
                f"{_INDEX} names; download the model again"
            )
    for file in sorted([*folder.glob("*.safetensors"), *folder.glob("*.bin")]):
        with file.open("rb") as content:
            if content.read(len(_POINTER)) == _POINTER:
                raise ConfigError(
                    f"{key}: {file.name} is a pointer of Git LFS and holds no weights; fetch them "
                    "with `git lfs pull` in that folder"
                )
        if file.suffix == ".safetensors":
            try:
                with safe_open(file, framework="pt"):
                    pass
            except SafetensorError as error:
                raise ConfigError(
                    f"{key}: {file.name} cannot be read, perhaps it was cut off: {error}"
                ) from None


def check_checkpoint_fits(config: DictConfig) -> None:
    """Check that ``ckpt_path`` holds the weights of this run's policy, with its adapters.

    Raises:
        ConfigError: it cannot be read, or is of another model.
    """
    if config.ckpt_path is None or Path(config.ckpt_path).is_dir():
        return
    key, held = f"ckpt_path={config.ckpt_path}", _shapes(Path(config.ckpt_path))
    model = skeleton(config)
    if config.policy.lora is not None:
        add_adapters(model, settings_of(LoRASettings, config.policy.lora, "policy.lora"))
    expected = {f"model.{name}": tensor.shape for name, tensor in model.state_dict().items()}
    adapted = any(".lora_" in name for name in held)
    if adapted != any(".lora_" in name for name in expected):
        has, todo = ("has", "lora=default") if adapted else ("has no", "policy.lora=null")
        raise ConfigError(f"{key} {has} adapters (LoRA), unlike this run; add {todo}")
    names = sorted(expected.keys() | held.keys())
    wrong = [name for name in names if held.get(name) != expected.get(name)]
    if wrong:
        name, path = wrong[0], config.policy.path
        own = "the embedded policy" if path is None else f"policy.path={path}"
        raise ConfigError(
            f"{key} is of another model than {own}: {len(wrong)} of "
            f"{len(expected)} weights differ, {name.removeprefix('model.')} is "
            f"{_shape(held.get(name))} there and {_shape(expected.get(name))} here"
        )


def _shape(shape: torch.Size | None) -> str:
    return "absent" if shape is None else "x".join(map(str, shape))


def _shapes(path: Path) -> dict[str, torch.Size]:
    """The shapes of the weights in a checkpoint, by name; nothing is read but its index."""
    try:
        checkpoint = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
        return {name: tensor.shape for name, tensor in checkpoint["state_dict"].items()}
    except (OSError, RuntimeError, EOFError, KeyError, TypeError, pickle.UnpicklingError) as error:
        reason = " ".join(str(error).split())[:120]
        raise ConfigError(
            f"ckpt_path={path} cannot be read as a checkpoint, perhaps it was cut off: {reason}"
        ) from None
