"""A vLLM server that takes weights from a training run: `python -m asym_lightning.serve FOLDER --max-model-len 2048`.

It is vLLM's own server (`vllm.entrypoints.openai.api_server`) with what a run needs of it: weights that can be replaced, tokens in
and out with the log-probs they were sampled by, and a guard before every route. Every option that is not named here goes to vLLM.
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
    "VLLM_SERVER_DEV_MODE": "1",  # the routes by which weights are replaced
    "VLLM_CPU_OMP_THREADS_BIND": "nobind",  # several servers and ranks may share a host
    "VLLM_NO_USAGE_STATS": "1",
    "VLLM_WORKER_MULTIPROC_METHOD": "spawn",  # its processes begin with this module, and die with their parent
}
OPTIONS = [
    *("--worker-extension-cls", "asym_lightning.rollout.server_worker.WeightsFromFolder"),
    *("--middleware", "asym_lightning.rollout.server_worker.RequireKey"),
    "--enable-scale-out",  # the route with tokens in and tokens out
    *("--logprobs-mode", "processed_logprobs"),
    "--disable-uvicorn-access-log",
]


def main(arguments: Sequence[str] | None = None) -> None:
    """Become the server; returns when it is stopped. Exits with status 2 where others could reach it without a key.

    Args:
        arguments: those of the command line unless given.
    """
    setup()
    parser = argparse.ArgumentParser(prog="python -m asym_lightning.serve", description=__doc__, allow_abbrev=False)
    parser.add_argument("model", help="folder or hub id that the server starts from; the run replaces its weights")
    parser.add_argument(
        "--host", default="127.0.0.1", help="address to listen on; others than this machine's own need a key in VLLM_API_KEY"
    )
    parser.add_argument("--uds", help="listen on this socket file in place of an address")
    parser.add_argument("--max-model-len", type=int, required=True, help="longest prompt plus completion, in tokens")
    parser.add_argument("--weight-transfer", choices=["nccl", "ipc"], help="take weights from GPU to GPU too (rollout.servers.transfer)")
    given, further = parser.parse_known_args(arguments)
    if given.uds is None and not is_loopback(given.host) and not os.environ.get("VLLM_API_KEY"):
        print(
            f"error: --host {given.host} can be reached from elsewhere: put a key into the environment variable VLLM_API_KEY",
            file=sys.stderr,
        )
        sys.exit(2)
    if given.weight_transfer == "ipc" and given.uds is None:
        print("error: --weight-transfer ipc is for servers that a run starts: it trusts whoever can send to it", file=sys.stderr)
        sys.exit(2)
    os.environ.update(ENVIRONMENT)
    import torch

    place = ["--host", given.host] if given.uds is None else ["--uds", given.uds]
    device: list[str] = []
    if not torch.cuda.is_available():  # a prompt prefilled in parts rewinds its seeded generator, which torch has no way of on a CPU
        os.environ["VLLM_ENABLE_V1_MULTIPROCESSING"] = "0"  # the worker within the engine's process, one process less
        if "--enforce-eager" in further:
            os.environ.setdefault("TORCH_COMPILE_DISABLE", "1")  # vLLM compiles one small function even so: seconds at the first token
        device = ["--no-enable-chunked-prefill", "--max-num-batched-tokens", str(max(4096, given.max_model_len))]
    transfer = [] if given.weight_transfer is None else ["--weight-transfer-config", json.dumps({"backend": given.weight_transfer})]
    if given.weight_transfer == "ipc":
        os.environ["VLLM_ALLOW_INSECURE_SERIALIZATION"] = "1"  # handles of GPU memory are pickled
    options = [*place, "--max-model-len", str(given.max_model_len), *device, *transfer, *OPTIONS, *further]
    sys.argv = ["api_server", "--model", given.model, *options]
    runpy.run_module("vllm.entrypoints.openai.api_server", run_name="__main__")


def end_with_owner(spawned: bool) -> None:
    """Let this process end with the one that it serves: what a server ``spawned`` with the server, a server that a run
    started with the run. A server that a person started goes on."""
    owner = os.environ.get(OWNER)
    if spawned or owner is not None:
        die_with_parent()
    if not spawned and owner not in (None, str(os.getppid())):
        sys.exit("the run that started this server is gone")
