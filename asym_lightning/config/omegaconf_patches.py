"""The private names of OmegaConf that this package uses."""

from omegaconf import DictConfig


def full_key(node: DictConfig, key: str | None = None) -> str:
    """Return the dotted key of a part of a config, or of ``key`` in it, from the config's root.

    Needed in error messages, by functions that are given the part alone.

    Upstream: https://github.com/omry/omegaconf/issues/1085
    Versions: omegaconf~=2.3 (tried with 2.3.1)
    """
    return node._get_full_key(key)
