"""The policy as a folder that transformers and vLLM load."""

from pathlib import Path
from typing import Any

from torch import Tensor


def save(model: Any, state: dict[str, Tensor], tokenizer: Any, folder: Path) -> None:
    """Write the weights ``state``, config and tokenizer to ``folder``.

    The written config allows the cache of generation again, which training switches off.
    """
    use_cache = model.config.use_cache
    model.config.use_cache = True
    model.save_pretrained(folder, state_dict=state)
    model.config.use_cache = use_cache
    tokenizer.save_pretrained(folder)
