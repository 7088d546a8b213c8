"""The policy as a folder that transformers and vLLM load."""

from pathlib import Path
from typing import Any

from torch import Tensor


def save(model: Any, state: dict[str, Tensor], tokenizer: Any, folder: Path) -> None:
    """Write the weights ``state``, config and tokenizer to ``folder``; generation may use its cache again."""
    training = model.config.use_cache
    model.config.use_cache = True
    model.save_pretrained(folder, state_dict=state)
    model.config.use_cache = training
    tokenizer.save_pretrained(folder)
