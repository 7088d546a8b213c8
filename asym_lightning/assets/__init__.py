"""Policies that come with the package, each a folder with its card (``card.json``)."""

from pathlib import Path


def shipped(name: str) -> str:
    """The folder of the policy ``name``, in a checkout and when installed alike; in configs ``${shipped:name}``."""
    return str(Path(__file__).resolve().parent / name)
