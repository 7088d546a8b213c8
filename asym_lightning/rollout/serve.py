"""A vLLM server that takes weights from a training run.

Start it with `python -m asym_lightning.serve FOLDER --max-model-len 2048`. It is vLLM's own server
(`vllm.entrypoints.openai.api_server`) with what a run needs beside it: weights that can be
replaced, a route that takes and returns tokens with the log-probs that they were sampled by, and a
guard before every route. Every option that is not named here goes to vLLM.
"""

import argparse
import json
import os
import runpy
import sys
from collections.abc import Sequence

from asym_lightning.rollout.address import OWNER, is_loopback
from asym_lightning.runtime import setup
from asym_lightning.runtime.watch.parent import die_with_parent

ENVIRONMENT = {
    # Opens the routes by which weights are replaced.
    "VLLM_SERVER_DEV_MODE": "1",
    # Several servers and ranks may share a host.
    "VLLM_CPU_OMP_THREADS_BIND": "nobind",
    "VLLM_NO_USAGE_STATS": "1",
    # Spawned processes begin with this module, and so end with their parent.
    "VLLM_WORKER_MULTIPROC_METHOD": "spawn",
}
OPTIONS = [
    *("--worker-extension-cls", "asym_lightning.rollout.server_worker.WeightsFromFolder"),
    *("--middleware", "asym_lightning.rollout.server_worker.RequireKey"),
    "--enable-scale-out",  # the route with tokens in and tokens out
    *("--logprobs-mode", "processed_logprobs"),
    "--disable-uvicorn-access-log",
]


def main(arguments: Sequence[str] | None = None) -> None:
    """Become the server; return when it is stopped.

    Exits with status 2 if other machines could reach the server without a key.

    Args:
        arguments: of the command line, by default those of this process.
    """
    setup()
    settings, vllm_options = _parser().parse_known_args(arguments)
    refusal = _refusal(settings)
    if refusal:
        print(f"error: {refusal}", file=sys.stderr)
        sys.exit(2)
    os.environ.update(ENVIRONMENT)
    place = ["--host", settings.host] if settings.uds is None else ["--uds", settings.uds]
    transfer = []
    if settings.weight_transfer is not None:
        backend = json.dumps({"backend": settings.weight_transfer})
        transfer = ["--weight-transfer-config", backend]
    if settings.weight_transfer == "ipc":
        # Handles of GPU memory are pickled.
        os.environ["VLLM_ALLOW_INSECURE_SERIALIZATION"] = "1"
    sys.argv = [
        "api_server",
        *("--model", settings.model),
        *place,
        *("--max-model-len", str(settings.max_model_len)),
        *_cpu_options(settings.max_model_len, eager="--enforce-eager" in vllm_options),
        *transfer,
        *OPTIONS,
        *vllm_options,
    ]
    runpy.run_module("vllm.entrypoints.openai.api_server", run_name="__main__")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m asym_lightning.serve", description=__doc__, allow_abbrev=False
    )
    parser.add_argument(
        "model", help="folder or hub id that the server starts from; the run replaces its weights"
    )
    parser.add_argument(
        "--host",
        default="127.0.0.1",
        help="address to listen on; any but a loopback address needs a key in VLLM_API_KEY",
    )
    parser.add_argument("--uds", help="listen on this socket file in place of an address")
    parser.add_argument(
        "--max-model-len", type=int, required=True, help="longest prompt plus completion, in tokens"
    )
    parser.add_argument(
        "--weight-transfer",
        choices=["nccl", "ipc"],
        help="take weights from GPU to GPU too (rollout.servers.transfer)",
    )
    return parser


def _refusal(settings: argparse.Namespace) -> str:
    """The reason why these options are unsafe; empty if they are safe."""
    if settings.uds is not None:
        return ""
    if not is_loopback(settings.host) and not os.environ.get("VLLM_API_KEY"):
        return (
            f"--host {settings.host} can be reached from elsewhere: put a key into the environment "
            "variable VLLM_API_KEY"
        )
    if settings.weight_transfer == "ipc":
        return (
            "--weight-transfer ipc is for servers that a run starts: it trusts every process that "
            "can send to it"
        )
    return ""


def _cpu_options(max_model_len: int, eager: bool) -> list[str]:
    """Return vLLM's options for a machine without a GPU, and set its environment variables there.

    With a GPU it returns no options and sets nothing.
    """
    import torch

    if torch.cuda.is_available():
        return []
    # The worker runs within the engine's process: one process less.
    os.environ["VLLM_ENABLE_V1_MULTIPROCESSING"] = "0"
    if eager:
        # Even in eager mode vLLM compiles one small function, for seconds at the first token.
        os.environ.setdefault("TORCH_COMPILE_DISABLE", "1")
    # With chunked prefill vLLM sets a request's seeded generator back to an earlier state, which
    # torch does not offer on a CPU. So each batch must have room for a prompt of full length.
    batched_tokens = str(max(4096, max_model_len))
    return ["--no-enable-chunked-prefill", "--max-num-batched-tokens", batched_tokens]


def end_with_owner(spawned: bool) -> None:
    """Make this process end together with its owner.

    A process that the server ``spawned`` ends with the server, and a server that a run started
    ends with the run, which has put its process id into the environment variable ``OWNER``. A
    server that a person started has no owner.
    """
    owner = os.environ.get(OWNER)
    if spawned or owner is not None:
        die_with_parent()
    # The run may have ended just before: then the parent is another process by now.
    if not spawned and owner not in (None, str(os.getppid())):
        sys.exit("the run that started this server is gone")
