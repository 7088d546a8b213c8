"""The learner beside a plain padded one with full logits: `python benchmarks/learner.py`.

Both have the same weights and rollouts. The parts:

    learn     forward and backward pass of one mini-batch over lengths and vocabularies
    head      log-prob and entropy over 151,936 words, with the gradients of both, and their memory:
              8,192 tokens, and 2,048 where full logits of 8,192 do not fit (about 30 GB)
    linear    time per token from 1k to 32k packed tokens of sequences of one length
    prompts   the saving by shared prompts

Each number comes from a process of its own, so that peak memory is its own: the peak during the
computation minus the memory held before it (on CUDA: torch's peak minus the allocated memory).
Seconds are the best of --repeats after one warm-up pass. Without a GPU they are the process's own
processor time, which other work on the machine disturbs less: set OMP_NUM_THREADS=1.
"""

import argparse
import json
import platform
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import torch

from learner_cases import Peak, head, ours, plain

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

PARTS = ("learn", "head", "linear", "prompts")
# (size, vocabulary, longest completion, tokens per micro-batch, groups) of the part ``learn``.
LEARN_ON_GPU = [("0.6B", 151936, 4096, 32768, 2), ("1.7B", 151936, 4096, 16384, 2)]
LEARN_ON_CPU = [
    ("0.5M", 258, 32, 2048, 32),
    ("15M", 32768, 512, 4096, 2),
    ("15M", 151936, 512, 4096, 1),
]


def child(given: argparse.Namespace) -> None:
    """Measure one case and print a JSON line. Freed memory is kept, as in a run."""
    from asym_lightning.runtime.memory import keep_freed_memory

    keep_freed_memory()
    make = {"ours": ours, "plain": plain, "full": head, "chunked": head}[given.what]
    step, tokens = make(given)

    clock = time.perf_counter if given.device == "cuda" else time.process_time

    def timed() -> float:
        start = clock()
        step()
        if given.device == "cuda":
            torch.cuda.synchronize()
        return clock() - start

    with Peak(given.device) as peak:
        waste = step()
    seconds = min(timed() for _ in range(given.repeats))
    result = {"seconds": seconds, "tokens": tokens, "peak_bytes": peak.bytes, "waste": waste}
    print(json.dumps(result))


def measure(what: str, **settings: Any) -> dict[str, Any]:
    """Run a case in a process of its own; {"error": ...} if the process fails (out of memory)."""
    command = [sys.executable, __file__, "--what", what]
    for name, value in settings.items():
        if value is not False:
            command.append(f"--{name.replace('_', '-')}")
        if not isinstance(value, bool):
            command.append(str(value))
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        lines = done.stderr.strip().splitlines() or [f"status {done.returncode}"]
        return {"error": lines[-1][:200]}
    return json.loads(done.stdout.strip().splitlines()[-1])


def compare(label: str, pair: tuple[str, str], out: list[dict[str, Any]], **settings: Any) -> None:
    """Measure both of the pair, print and append a row: the second over the first."""
    first, second = pair
    a, b = (measure(what, **settings) for what in pair)
    row = {"case": label, "settings": settings, first: a, second: b}
    out.append(row)
    if "error" in a or "error" in b:
        print(
            f"{label}: {first} {a.get('error', 'ok')}; {second} {b.get('error', 'ok')}", flush=True
        )
        return
    row["ratio"] = {name: b[name] / max(a[name], 1e-9) for name in ("seconds", "peak_bytes")}
    print(
        f"{label}: {first} {_cost(a)}; {second} {_cost(b)}; {second} / {first}: "
        f"time {row['ratio']['seconds']:.2f}, memory {row['ratio']['peak_bytes']:.2f}; "
        f"wasted tokens {a['waste']:.1%}, {b['waste']:.1%}",
        flush=True,
    )


def _cost(result: dict[str, Any]) -> str:
    return f"{result['seconds']:.3f} s, {result['peak_bytes'] / 2**20:,.0f} MiB"


def learn(rows: list[dict[str, Any]], base: dict[str, Any], *, bf16: bool) -> None:
    """Compare one mini-batch over lengths and vocabularies."""
    gpu = base["device"] == "cuda"
    precision = "bf16" if bf16 else "fp32"
    for size, vocabulary, longest, budget, groups in LEARN_ON_GPU if gpu else LEARN_ON_CPU:
        shape = {
            "size": size,
            "vocabulary": vocabulary,
            "longest": longest,
            "budget": budget,
            "groups": groups,
            "prompt": min(longest // 4, 96),
        }
        label = f"learn, {precision}, {shape}"
        compare(label, ("ours", "plain"), rows, **shape, bf16=bf16, checkpointing=gpu, **base)


def output_head(rows: list[dict[str, Any]], base: dict[str, Any], *, bf16: bool) -> None:
    """Compare log-prob and entropy from hidden states."""
    precision = "bf16" if bf16 else "fp32"
    for tokens in (2048, 8192):
        shape = {"size": "15M", "vocabulary": 151936, "budget": tokens, "bf16": bf16, **base}
        label = f"head, {precision}, {tokens:,} tokens x 151,936"
        if base["device"] == "cuda" or tokens == 2048:
            compare(label, ("chunked", "full"), rows, **shape)
        else:
            got = measure("chunked", **shape)
            rows.append({"case": f"head {precision} {tokens}", "chunked": got})
            print(f"{label}: chunked {_cost(got)}", flush=True)


def linear(rows: list[dict[str, Any]], base: dict[str, Any]) -> None:
    """Measure the time per token over the number of packed tokens."""
    for tokens in (1024, 2048, 4096, 8192, 16384, 32768):
        shape = {
            "size": "0.5M",
            "vocabulary": 258,
            "longest": 192,
            "prompt": 64,
            "group_size": 4,
            "groups": tokens // 1024,
            "fixed": True,
        }
        got = measure("ours", **shape, budget=tokens, apart=True, **base)
        rows.append({"case": f"linear {tokens}", "ours": got})
        per_token = 1e6 * got["seconds"] / tokens
        print(f"linear, {tokens} packed tokens: {per_token:.2f} us per token", flush=True)


def prompts(rows: list[dict[str, Any]], base: dict[str, Any]) -> None:
    """Compare shared prompts with a prompt per completion."""
    for prompt, longest in ((64, 512), (512, 512), (1024, 256)):
        shape = {
            "size": "15M",
            "vocabulary": 1024,
            "prompt": prompt,
            "longest": longest,
            "group_size": 8,
            "budget": 16384,
            **base,
        }
        shared, apart = measure("ours", **shape), measure("ours", **shape, apart=True)
        rows.append({"case": f"prompts {prompt} {longest}", "ours": shared, "apart": apart})
        print(
            f"prompts of {prompt}, up to {longest} more, G = 8: shared {shared['seconds']:.2f} s, "
            f"apart {apart['seconds']:.2f} s; ratio {apart['seconds'] / shared['seconds']:.2f}",
            flush=True,
        )


def arguments() -> argparse.Namespace:
    """Parse the arguments; those without help are for the process of one case."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("parts", nargs="*", default=list(PARTS))
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--json", type=Path, default=None, help="write everything here")
    hidden = {
        "what": (str, None),
        "size": (str, "15M"),
        "vocabulary": (int, 32768),
        "groups": (int, 4),
        "group-size": (int, 8),
        "prompt": (int, 64),
        "longest": (int, 512),
        "budget": (int, 16384),
    }
    for name, (kind, default) in hidden.items():
        parser.add_argument(f"--{name}", type=kind, default=default, help=argparse.SUPPRESS)
    for name in ("bf16", "apart", "checkpointing", "fixed"):
        parser.add_argument(f"--{name}", action="store_true", help=argparse.SUPPRESS)
    return parser.parse_args()


def main() -> None:
    given = arguments()
    if given.what:
        child(given)
        return
    base = {"device": given.device, "repeats": given.repeats}
    gpu = given.device == "cuda"
    rows: list[dict[str, Any]] = []
    threads = f"{torch.get_num_threads()} threads" if not gpu else torch.cuda.get_device_name()
    print(f"{platform.machine()}, {threads}, torch {torch.__version__}", flush=True)
    for bf16 in (True,) if gpu else (False, True):
        if "learn" in given.parts:
            learn(rows, base, bf16=bf16)
        if "head" in given.parts:
            output_head(rows, base, bf16=bf16)
    if "linear" in given.parts:
        linear(rows, base)
    if "prompts" in given.parts:
        prompts(rows, base)
    if given.json:
        results = {
            "torch": torch.__version__,
            "machine": platform.machine(),
            "threads": threads,
            "rows": rows,
        }
        given.json.parent.mkdir(parents=True, exist_ok=True)
        given.json.write_text(json.dumps(results, indent=1))


if __name__ == "__main__":
    main()
