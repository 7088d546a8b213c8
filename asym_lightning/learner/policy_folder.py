"""The policy as a folder that transformers and vLLM load."""

import shutil
import tempfile
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

# Files of a model's folder that a policy trained from it has too: tokenizer, templates, generation
# config, code, and the license. The folder may hold weights in other forms, and data of the user's.
_COPIED = (".json", ".jinja", ".txt", ".model", ".tiktoken", ".py")
_LEGAL = ("LICENSE", "NOTICE")
_NOT_COPIED = ("config.json", "card.json")


def save(
    model: Any, state: dict[str, Tensor], tokenizer: Any, *, folder: Path, base: str | Path
) -> None:
    """Write a policy: its weights first, then what could fail.

    The config is the model's; it allows the cache of generation again, which training switches
    off. The other files are those of the model that the policy began with, byte for byte: its
    generation config names tokens that end a completion, which the tokenizer may not know.

    Args:
        state: the weights, under transformers' names.
        base: folder or hub id of the model that the policy began with.
    """
    from transformers import GenerationConfig

    use_cache, generation = model.config.use_cache, model.generation_config
    # transformers checks the generation config before it writes the weights, and refuses some that
    # published models have.
    model.config.use_cache, model.generation_config = True, GenerationConfig()
    try:
        model.save_pretrained(folder, state_dict=state)
    finally:
        model.config.use_cache, model.generation_config = use_cache, generation
    (folder / "generation_config.json").unlink(missing_ok=True)
    source = files_of(base)
    if source is None or not (source / "generation_config.json").is_file():
        generation.save_pretrained(folder)
    if source is None or not (source / "tokenizer_config.json").is_file():
        tokenizer.save_pretrained(folder)
    if source is not None:
        copy_other_files(source, folder)


def files_of(base: str | Path) -> Path | None:
    """Return the folder with the files of a model; None if a hub id is not in the local cache."""
    if Path(base).is_dir():
        return Path(base)
    from transformers.utils import cached_file

    try:
        config = cached_file(str(base), "config.json", local_files_only=True)
    except OSError:
        return None
    return Path(str(config)).parent


def copy_other_files(source: Path, folder: Path) -> None:
    """Copy the files that are neither weights nor config, nor foreign to a model."""
    for path in sorted(source.iterdir()):
        kept = path.suffix in _COPIED or path.name.startswith(_LEGAL)
        anew = path.name in _NOT_COPIED or path.name.endswith(".index.json")
        if path.is_file() and kept and not anew:
            shutil.copyfile(path, folder / path.name)
        elif path.is_dir() and path.name.endswith("chat_templates"):
            shutil.copytree(path, folder / path.name, dirs_exist_ok=True)


def trial_save(model: Any, tokenizer: Any, *, base: str | Path) -> None:
    """Write a policy with one small weight into a temporary folder, to see what would fail.

    Args:
        model: its weights may be on the meta device.

    Raises:
        Exception: whatever writing the policy at the end of the run would raise.
    """
    name, smallest = min(model.state_dict().items(), key=lambda item: item[1].numel())
    with tempfile.TemporaryDirectory() as folder:
        weights = {name: torch.zeros(smallest.shape)}
        save(model, weights, tokenizer, folder=Path(folder), base=base)
