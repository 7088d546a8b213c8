"""Export a checkpoint as a folder that transformers and vLLM load.

`python -m asym_lightning.export CHECKPOINT FOLDER`
"""

import argparse
import sys
from pathlib import Path
from typing import Any

import torch
from omegaconf import OmegaConf

from asym_lightning.runtime.run_folder import is_checkpoint
from asym_lightning.types import ConfigError


def export(checkpoint: Path, folder: Path) -> None:
    """Export a checkpoint of a run. The run's ``config.yaml`` names the model.

    Raises:
        ConfigError: the checkpoint does not exist or is not in a run directory, or ``folder`` is
            not empty.
    """
    from transformers import AutoConfig, AutoModelForCausalLM

    from asym_lightning.config.loading import settings_of
    from asym_lightning.config.model import load_tokenizer, policy_folder
    from asym_lightning.learner.adapters import LoRASettings, add_adapters, merged_state_dict
    from asym_lightning.learner.policy_folder import save
    from asym_lightning.learner.zero import full_state_dict

    if not is_checkpoint(checkpoint):
        raise ConfigError(
            f"{checkpoint}: there is no such checkpoint; a run keeps them under checkpoints/"
        )
    source = checkpoint.resolve().parent.parent / "config.yaml"
    if not source.is_file():
        raise ConfigError(
            f"{source}: not found; the checkpoint must be in the checkpoints/ folder of its run "
            "directory"
        )
    if folder.exists() and any(folder.iterdir()):
        raise ConfigError(f"{folder} is not empty; name a new folder")
    config: Any = OmegaConf.load(source)
    path = policy_folder(config)
    settings = AutoConfig.from_pretrained(path, trust_remote_code=config.policy.trust_remote_code)
    model = AutoModelForCausalLM.from_config(
        settings, trust_remote_code=config.policy.trust_remote_code, dtype=torch.float32
    )
    if config.policy.get("lora") is not None:
        add_adapters(model, settings_of(LoRASettings, config.policy.lora, "policy.lora"))
    if checkpoint.is_dir():
        state = full_state_dict(checkpoint)
    else:
        state = torch.load(checkpoint, map_location="cpu", weights_only=True)["state_dict"]
    model.load_state_dict({name.removeprefix("model."): tensor for name, tensor in state.items()})
    weights = dict(merged_state_dict(model))
    save(model, weights, load_tokenizer(config), folder=folder, base=path)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m asym_lightning.export", description=__doc__)
    parser.add_argument("checkpoint", type=Path, help="a .ckpt of a run")
    parser.add_argument("folder", type=Path, help="where the transformers folder goes")
    arguments = parser.parse_args()
    try:
        export(arguments.checkpoint, arguments.folder)
    except ConfigError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    print(f"exported to {arguments.folder}")
