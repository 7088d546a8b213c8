"""The cost of sending new weights to a server, by each of `rollout.servers.transfer`.

Run `python benchmarks/transfer.py` on one GPU.

A policy of the shape of Qwen3-1.7B, in fp32, is handed to three vLLM servers that compute in bf16,
all on the policy's own GPU: one takes weights from a folder in memory, one by CUDA IPC, one by
NCCL. NCCL wants a GPU for each side, so here it takes both sides for hosts and goes through the
loopback interface: its time says nothing about GPUs with a link between them. A sync ends when the
server samples from the new weights. The servers alternate, and each time all of them must give the
same answer to a prompt, and another answer than before.
"""

import argparse
import os
import statistics
import sys
import tempfile
import time
from pathlib import Path

import torch
from transformers import Qwen3Config, Qwen3ForCausalLM

from asym_lightning.learner.adapters import merged_state_dict
from asym_lightning.learner.embedded import byte_tokenizer
from asym_lightning.rollout import servers
from asym_lightning.rollout.server_settings import ServerSettings
from sync import SHAPE

PROMPT = [1, 2, 3, 4, 5]
WAYS = ("folder", "ipc", "nccl")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--ways", nargs="+", default=WAYS, choices=WAYS)
    given = parser.parse_args()
    os.environ |= {"NCCL_SOCKET_IFNAME": "lo", "NCCL_HOSTID": "server"}
    servers.gpu_for = lambda *_: {}  # type: ignore[assignment]
    torch.manual_seed(0)
    with torch.device("cuda"):
        model = Qwen3ForCausalLM(
            Qwen3Config(
                vocab_size=151936, tie_word_embeddings=True, max_position_embeddings=1024, **SHAPE
            )
        )
    taken: dict[str, list[float]] = {}
    with tempfile.TemporaryDirectory() as folder:
        model.bfloat16().save_pretrained(folder)
        model.float()
        byte_tokenizer().save_pretrained(folder)
        options = [
            "--enforce-eager",
            "--gpu-memory-utilization",
            "0.15",
            "--kv-cache-memory-bytes",
            str(2**30),
        ]
        engines = {}
        for way in given.ways:
            settings = ServerSettings(transfer=way)
            engines[way] = servers.ServerEngine(
                folder, "bfloat16", 128, 16, settings, Path(folder) / way, options
            )
        os.environ["NCCL_HOSTID"] = "trainer"
        said: list[float] = []
        for turn in range(given.rounds + 1):
            before = said
            with torch.no_grad():
                model.model.norm.weight *= 1.1
            for way, engine in engines.items():
                torch.cuda.synchronize()
                start = time.perf_counter()
                engine.sync(merged_state_dict(model), turn)
                if turn:  # the first one makes connections
                    taken.setdefault(way, []).append(time.perf_counter() - start)
                [found] = engine.prompt_logprobs([PROMPT])  # says which weights it has, too
                if way == given.ways[0]:
                    said = found
                if found != said or found == before:
                    sys.exit(
                        f"error: after sync {turn} by {way} the server says {found}; "
                        f"{given.ways[0]}: {said}; before: {before}"
                    )
        for engine in engines.values():
            engine.close()
    print("| transfer | sync, s | least | most |\n|---|---|---|---|")
    for way, seconds in taken.items():
        print(
            f"| {way} | {statistics.median(seconds):.3f} | {min(seconds):.3f} | "
            f"{max(seconds):.3f} |"
        )


if __name__ == "__main__":
    main()
