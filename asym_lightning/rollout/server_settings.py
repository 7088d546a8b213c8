"""The settings of a run's vLLM servers, and the checks of them."""

import os
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import Field

from asym_lightning.checks import Count, Positive, WholeNumber, validated
from asym_lightning.rollout.address import is_loopback
from asym_lightning.types import ConfigError, FieldError


@validated
@dataclass(frozen=True)
class ServerSettings:
    """The keys under ``rollout.servers``; conf/rollout/servers.yaml says what they mean.

    Raises:
        ConfigError: a value is not allowed there.
    """

    count: Count | None = None
    urls: Annotated[
        tuple[str, ...], Field(strict=False, description="a list such as [http://127.0.0.1:8000]")
    ] = ()
    transfer: Literal["folder", "nccl", "ipc"] = "folder"
    folder: str | None = None
    api_key_env: str = "VLLM_API_KEY"
    start_timeout_s: Positive = 300
    request_timeout_s: Positive = 600
    retries: WholeNumber = 2

    def __post_init__(self) -> None:
        self._check_urls()
        if self.urls and self.count is not None:
            raise FieldError(
                f"urls={list(self.urls)}: it names servers that run already, count is how many to "
                "start; give one of the two"
            )
        if self.urls and self.transfer == "ipc":
            raise FieldError(
                "transfer=ipc: it is for servers that the run starts on its own GPUs; "
                "take nccl with urls"
            )

    def _check_urls(self) -> None:
        for url in self.urls:
            parts = urlsplit(url)
            if parts.scheme not in ("http", "https") or not parts.hostname or parts.path.strip("/"):
                raise FieldError(
                    f"urls: {url} is not a server's address, such as http://127.0.0.1:8000"
                )
        if len(set(self.urls)) < len(self.urls):
            raise FieldError(f"urls={list(self.urls)}: a server is named twice")

    @property
    def remote_urls(self) -> list[str]:
        """The URLs that may be on another machine."""
        return [url for url in self.urls if not is_loopback(urlsplit(url).hostname or "")]

    @property
    def api_key(self) -> str | None:
        return os.environ.get(self.api_key_env) or None

    def own(self, rank: int, world: int) -> list[int]:
        """The numbers of the servers that belong to a rank."""
        return list(range(rank, len(self.urls) or self.count or world, world))

    def check(self, ranks: int, machines: int, gpus: int) -> None:
        """Refuse settings that do not fit the trainer.

        Args:
            ranks: number of ranks on all machines.
            machines: number of machines that the ranks are on.
            gpus: number of GPUs of this machine; 0 without GPUs.

        Raises:
            ConfigError: as its message says.
        """
        uses_vllm_here = not self.urls or self.transfer != "folder"
        packages = ("aiohttp", "vllm") if uses_vllm_here else ("aiohttp",)
        missing = [name for name in packages if find_spec(name) is None]
        if missing:
            raise ConfigError(
                f"rollout=servers needs {' and '.join(missing)}, which is not installed; "
                "see the README on installing vLLM"
            )
        if self.urls:
            key, servers = "urls", len(self.urls)
        else:
            key, servers = "count", self.count or ranks
        if servers % ranks:
            raise FieldError(
                f"{key}: {servers} servers for {ranks} ranks; every rank needs "
                "the same number of servers"
            )
        if self.remote_urls and self.api_key is None:
            raise FieldError(
                f"urls: {self.remote_urls[0]} is not on this machine, so its "
                f"server needs an API key; put the key into the environment variable "
                f"{self.api_key_env} (api_key_env) here and into VLLM_API_KEY there"
            )
        self._check_transfer(machines, gpus)
        gpus_needed = (ranks if self.transfer == "ipc" else ranks + servers) // machines
        if gpus and not self.urls and gpus_needed > gpus:
            raise FieldError(
                f"count: {servers // machines} servers beside "
                f"{ranks // machines} ranks on a machine with {gpus} GPUs; each takes one: "
                "lower trainer.devices"
            )

    def _check_transfer(self, machines: int, gpus: int) -> None:
        if self.transfer == "folder" and (self.remote_urls or machines > 1) and self.folder is None:
            raise FieldError(
                "folder is not given: with several machines, name a folder that all of them see, "
                "or take transfer=nccl"
            )
        if self.transfer != "folder" and not gpus:
            raise FieldError(
                f"transfer={self.transfer}: weights go from GPU to GPU, and "
                "this machine has no GPU; take folder"
            )
