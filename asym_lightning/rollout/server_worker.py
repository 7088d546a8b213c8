"""Code that `python -m asym_lightning.serve` loads into a vLLM server.

It takes weights from a folder, and lets only requests with the API key through.
"""

import hashlib
import hmac
import os
from collections.abc import Awaitable, Callable, Iterator, MutableMapping
from pathlib import Path
from typing import Any

from safetensors import safe_open
from torch import Tensor

from asym_lightning.rollout.read_back import ReadBack
from asym_lightning.rollout.vllm_patches import repack_experts, retie

_Scope = MutableMapping[str, Any]
_Receive = Callable[[], Awaitable[_Scope]]
_Send = Callable[[_Scope], Awaitable[None]]


def tensors_in(folder: Path) -> Iterator[tuple[str, Tensor]]:
    """Name and tensor of everything in a folder of safetensors files, one at a time."""
    for path in sorted(folder.glob("*.safetensors")):
        with safe_open(path, framework="pt") as file:
            for name in file.keys():  # noqa: SIM118 (it is not a mapping)
                yield name, file.get_tensor(name)


class WeightsFromFolder:
    """Methods added to vLLM's worker; the run calls them through the route /collective_rpc."""

    weights_label = ""
    _read_back: ReadBack | None = None
    vllm_config: Any
    model_runner: Any

    def take_weights(self, folder: str) -> dict[str, str]:
        """Replace all weights by those in ``folder``, whose name becomes their label.

        Returns the label, and ``error`` after a failure: an exception would end the server.
        """
        try:
            if not Path(folder).is_dir():
                raise FileNotFoundError("there is no such folder on this machine")
            self._load(tensors_in(Path(folder)))
            self.weights_label = Path(folder).name
        except Exception as error:
            return {"label": self.weights_label, "error": f"{type(error).__name__}: {error}"}
        return {"label": self.weights_label}

    def _load(self, weights: Iterator[tuple[str, Tensor]]) -> None:
        model = self.model_runner.get_model()
        if self._read_back is None:
            self._read_back = ReadBack(self.vllm_config.model_config.dtype)
        # Workers that share the model each hold a part of a weight, which has no whole columns.
        undivided = self.vllm_config.parallel_config.world_size == 1
        if undivided:
            self._read_back.begin(model)
            weights = self._read_back.watched(weights)
        repack_experts(model)
        self.reload_weights(weights_iterator=weights)  # type: ignore[attr-defined]
        retie(model)
        if undivided:
            self._read_back.check(model)

    def describe(self) -> dict[str, Any]:
        """The settings that a run compares with its own, and how weights reach this server."""
        model, transfer = self.vllm_config.model_config, self.vllm_config.weight_transfer_config
        return {
            "transfer": transfer.backend if transfer else "folder",
            "workers": self.vllm_config.parallel_config.world_size,
            "dtype": str(model.dtype).removeprefix("torch."),
            "max_model_len": model.max_model_len,
            "logprobs_mode": model.logprobs_mode,
        }


class RequireKey:
    """ASGI middleware: if VLLM_API_KEY is set, every route but /health needs it.

    vLLM itself guards only /v1 and a few other routes, not those that replace weights.
    """

    def __init__(self, app: Callable[[_Scope, _Receive, _Send], Awaitable[None]]):
        self.app = app
        key = os.environ.get("VLLM_API_KEY")
        self._expected = hashlib.sha256(f"Bearer {key}".encode()).digest() if key else None

    async def __call__(self, scope: _Scope, receive: _Receive, send: _Send) -> None:
        guarded = scope["type"] in ("http", "websocket") and scope["path"] != "/health"
        if self._expected is None or not guarded:
            return await self.app(scope, receive, send)
        authorization = dict(scope["headers"]).get(b"authorization", b"")
        if hmac.compare_digest(hashlib.sha256(authorization).digest(), self._expected):
            return await self.app(scope, receive, send)
        if scope["type"] == "websocket":
            return await send({"type": "websocket.close", "code": 1008})
        headers = [(b"content-type", b"text/plain")]
        await send({"type": "http.response.start", "status": 401, "headers": headers})
        await send({"type": "http.response.body", "body": b"the API key is missing or wrong"})
        return None
