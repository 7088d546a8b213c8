"""Which vLLM servers a run uses, and what of it cannot work."""

import os
from dataclasses import dataclass
from importlib.util import find_spec
from urllib.parse import urlsplit

from asym_lightning.checks import number, one_of, positive_int
from asym_lightning.rollout.address import is_loopback
from asym_lightning.types import ConfigError


@dataclass(frozen=True)
class ServerSettings:
    """The keys under ``rollout.servers``; conf/rollout/servers.yaml says what they mean.

    Raises:
        ConfigError: a value is none of what is allowed there.
    """

    count: int | None = None
    urls: tuple[str, ...] | list[str] = ()
    transfer: str = "folder"
    folder: str | None = None
    api_key_env: str = "VLLM_API_KEY"
    start_timeout_s: float = 300
    request_timeout_s: float = 600
    retries: int = 2

    def __post_init__(self) -> None:
        if self.count is not None:
            positive_int("rollout.servers.count", self.count)
        for key in ("start_timeout_s", "request_timeout_s"):
            number(f"rollout.servers.{key}", getattr(self, key), 0, open_low=True)
        number("rollout.servers.retries", self.retries, 0)
        one_of("rollout.servers.transfer", self.transfer, ("folder", "nccl", "ipc"))
        if isinstance(self.urls, str) or not all(isinstance(url, str) for url in self.urls):
            raise ConfigError(f"rollout.servers.urls={self.urls}: must be a list such as [http://127.0.0.1:8000]")
        for url in self.urls:
            parts = urlsplit(url)
            if parts.scheme not in ("http", "https") or not parts.hostname or parts.path.strip("/"):
                raise ConfigError(f"rollout.servers.urls: {url} is no address of a server, such as http://127.0.0.1:8000")
        if len(set(self.urls)) < len(self.urls):
            raise ConfigError(f"rollout.servers.urls={list(self.urls)}: a server is named twice")
        if self.urls and self.count is not None:
            raise ConfigError("rollout.servers: urls are servers that run already, count are those to start; give one of the two")
        if self.urls and self.transfer == "ipc":
            raise ConfigError("rollout.servers.transfer=ipc is for servers that the run starts on its own GPUs; take nccl with urls")

    @property
    def elsewhere(self) -> list[str]:
        """The URLs that are not on this machine for sure."""
        return [url for url in self.urls if not is_loopback(urlsplit(url).hostname or "")]

    @property
    def api_key(self) -> str | None:
        return os.environ.get(self.api_key_env) or None

    def own(self, rank: int, world: int) -> list[int]:
        """The numbers of the servers that belong to a rank."""
        return list(range(rank, len(self.urls) or self.count or world, world))

    def check(self, ranks: int, machines: int, gpus: int) -> None:
        """Refuse what does not fit the trainer: ``ranks`` in all on ``machines`` machines; ``gpus`` of this one, 0 without.

        Raises:
            ConfigError: as its message says.
        """
        here = () if self.urls and self.transfer == "folder" else ("vllm",)
        missing = [name for name in ("aiohttp", *here) if find_spec(name) is None]
        if missing:
            raise ConfigError(f"rollout=servers needs {' and '.join(missing)}, which is not installed; see the README on installing vLLM")
        key, number = ("urls", len(self.urls)) if self.urls else ("count", self.count or ranks)
        if number % ranks:
            raise ConfigError(f"rollout.servers.{key}: {number} servers for {ranks} ranks; every rank needs the same number of servers")
        if self.elsewhere and self.api_key is None:
            raise ConfigError(
                f"rollout.servers.urls: {self.elsewhere[0]} is not on this machine, so its server needs an API key; put the key into the "
                f"environment variable {self.api_key_env} (rollout.servers.api_key_env) here and into VLLM_API_KEY there"
            )
        if self.transfer == "folder" and (self.elsewhere or machines > 1) and self.folder is None:
            raise ConfigError(
                "rollout.servers.folder is not given: with several machines, name a folder that all of them see, or take "
                "rollout.servers.transfer=nccl"
            )
        if self.transfer != "folder" and not gpus:
            raise ConfigError(f"rollout.servers.transfer={self.transfer}: weights go from GPU to GPU, and there is none here; take folder")
        wanted = (ranks if self.transfer == "ipc" else ranks + number) // machines
        if gpus and not self.urls and wanted > gpus:
            raise ConfigError(
                f"rollout.servers.count: {number // machines} servers beside {ranks // machines} ranks on a machine with {gpus} GPUs; each "
                f"takes one: lower trainer.devices"
            )
