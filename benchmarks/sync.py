"""The cost of a weight sync beside a bare copy of the same bytes: `python benchmarks/sync.py`.

A policy of 60 million parameters with a vocabulary of 151,936 tokens is handed to a vLLM engine in
the same process, in fp32 and bf16, with tied and with untied embeddings (on a GPU: a policy of the
shape of Qwen3-1.7B, in bf16); each case is a process of its own. The bare copy puts every tensor of
the policy into a ready tensor of the engine's precision; on a GPU vLLM's own `reload_weights`,
which a sync does not need there, is a third case. The cases alternate. Peak memory is the peak of
the process during one sync minus its memory before (Linux; on a GPU: of torch's tensors there), and
the largest tensor is in the engine's precision. On a CPU the packing of single matrices of a policy
of 1.7 billion parameters is timed too; it is a part of any sync.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from transformers import Qwen3Config, Qwen3ForCausalLM

from asym_lightning.learner.adapters import merged_state_dict
from asym_lightning.learner.embedded import byte_tokenizer
from asym_lightning.rollout.vllm import VLLMEngine
from asym_lightning.runtime.memory import keep_freed_memory

SMALL = {
    "hidden_size": 256,
    "num_hidden_layers": 20,
    "intermediate_size": 1024,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
}
LARGE = {
    "hidden_size": 2048,
    "num_hidden_layers": 28,
    "intermediate_size": 6144,
    "num_attention_heads": 16,
    "num_key_value_heads": 8,
}
GPU = torch.cuda.is_available()
# LARGE is the shape of Qwen3-1.7B.
SHAPE: dict[str, Any] = LARGE | {"head_dim": 128} if GPU else SMALL | {"head_dim": 64}
MIB = 2**20


def seconds(work: Callable[[], object]) -> tuple[float, float]:
    """Wall-clock and processor seconds of ``work``."""
    wall, processor = time.perf_counter(), time.process_time()
    work()
    if GPU:
        torch.cuda.synchronize()
    return time.perf_counter() - wall, time.process_time() - processor


def resident(key: str) -> int:
    """Return ``VmRSS``, the memory of this process now, or ``VmHWM``, its peak (bytes).

    The peak is the most since it was last reset. On a GPU both are of torch's tensors there.
    """
    if GPU:
        return (
            torch.cuda.memory_allocated() if key == "VmRSS" else torch.cuda.max_memory_allocated()
        )
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(key))


def forget_peak() -> None:
    if GPU:
        torch.cuda.reset_peak_memory_stats()
    Path("/proc/self/clear_refs").write_text("5")


def measure(dtype: str, tied: bool, rounds: int) -> dict[str, float]:
    """One case."""
    config = Qwen3Config(
        vocab_size=151936, tie_word_embeddings=tied, max_position_embeddings=1024, **SHAPE
    )
    torch.manual_seed(0)
    with torch.device("cuda" if GPU else "cpu"):
        model = Qwen3ForCausalLM(config)
    with tempfile.TemporaryDirectory() as folder:
        model.save_pretrained(folder)
        byte_tokenizer().save_pretrained(folder)
        engine = VLLMEngine(folder, dtype, 128, 128)
    weights = dict(merged_state_dict(model))
    ready = {
        name: torch.zeros(tensor.shape, dtype=getattr(torch, dtype), device=tensor.device)
        for name, tensor in weights.items()
    }
    ways: dict[str, Callable[[], object]] = {
        "sync": lambda: engine.sync(weights.items(), 0),
        "copy": lambda: [ready[name].copy_(tensor) for name, tensor in weights.items()],
    }
    if GPU:
        ways["reload"] = lambda: engine.llm.collective_rpc(
            "reload_weights", kwargs={"weights_iterator": iter(weights.items())}
        )
    for _ in range(2):
        ways["sync"]()
    forget_peak()
    before = resident("VmRSS")
    ways["sync"]()
    found = {
        "peak": (resident("VmHWM") - before) / MIB,
        "largest": max(t.nbytes for t in ready.values()) / MIB,
    }
    keep_freed_memory()  # as runs do; a peak could not be seen then
    taken: dict[str, list[tuple[float, float]]] = {name: [] for name in ways}
    for turn in range(rounds + 2):
        for name, work in ways.items():
            took = seconds(work)
            if turn >= 2:  # the first rounds warm up
                taken[name].append(took)
    for name, pairs in taken.items():
        found[f"{name} wall"], found[f"{name} processor"] = (
            statistics.median(values) for values in zip(*pairs, strict=True)
        )
    found["parameters"] = sum(t.numel() for t in weights.values()) / 1e6
    engine.close()
    return found


def packing(rounds: int) -> list[str]:
    """Rows of a table: oneDNN's packing of a matrix beside the bare copy of the weight.

    The bare copy is of a policy's fp32 weight into the matrix; times are in processor seconds.
    """
    from vllm import _custom_ops as ops

    keep_freed_memory()  # as runs do
    hidden, inner = LARGE["hidden_size"], LARGE["intermediate_size"]
    rows = []
    for dtype in (torch.float32, torch.bfloat16):
        for shape in ((hidden, hidden), (2 * inner, hidden), (hidden, inner)):
            weight, matrix = torch.randn(shape), torch.zeros(shape, dtype=dtype)
            ways = {
                "copy": partial(matrix.copy_, weight),
                "pack": partial(ops.create_onednn_mm, matrix.t(), 32),
            }
            taken = {
                name: statistics.median([seconds(work)[1] for _ in range(rounds + 2)][2:])
                for name, work in ways.items()
            }
            size = " x ".join(f"{n:,}" for n in shape)
            numbers = (
                f"{taken['pack']:.4f} | {taken['copy']:.4f} | {taken['pack'] / taken['copy']:.1f}"
            )
            rows.append(f"| {str(dtype).removeprefix('torch.')} | {size} | {numbers} |")
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument(
        "--case", nargs=2, metavar=("DTYPE", "HEAD"), help="one case, printed as JSON"
    )
    given = parser.parse_args()
    if given.case:
        print("\n" + json.dumps(measure(given.case[0], given.case[1] == "tied", given.rounds)))
        return
    ways = ["sync", "bare copy", *(["reload_weights"] if GPU else [])]
    columns = [
        "engine",
        "head",
        "parameters (M)",
        *(f"{way}, s (processor)" for way in ways),
        "sync / copy (processor)",
    ]
    print(
        "| "
        + " | ".join([*columns, "peak MiB", "largest MiB"])
        + " |\n"
        + "|---" * (len(columns) + 2)
        + "|"
    )
    for dtype in ("bfloat16",) if GPU else ("float32", "bfloat16"):
        for head in ("tied", "untied"):
            command = [
                sys.executable,
                __file__,
                "--rounds",
                str(given.rounds),
                "--case",
                dtype,
                head,
            ]
            done = subprocess.run(command, check=True, capture_output=True, text=True)
            f = json.loads(done.stdout.splitlines()[-1])
            both = [
                f"{f[f'{name} wall']:.4f} ({f[f'{name} processor']:.4f})"
                for name in ("sync", "copy", *(["reload"] if GPU else []))
            ]
            ratios = [f["sync " + clock] / f["copy " + clock] for clock in ("wall", "processor")]
            cells = [
                dtype,
                head,
                f"{f['parameters']:.0f}",
                *both,
                f"{ratios[0]:.2f} ({ratios[1]:.2f})",
                f"{f['peak']:.0f}",
            ]
            print("| " + " | ".join([*cells, f"{f['largest']:.0f}"]) + " |", flush=True)
    if not GPU:
        columns = (
            "| matrix | shape | packing, s | bare copy, s | packing / copy |\n|---|---|---|---|---|"
        )
        print("", columns, *packing(given.rounds), sep="\n")


if __name__ == "__main__":
    main()
