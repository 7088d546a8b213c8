"""The learner beside a plain padded one with full logits, same weights and rollouts: `python benchmarks/learner.py`.

    learn     forward and backward pass of one mini-batch over lengths and vocabularies
    head      log-prob and entropy over 151,936 words, with the gradients of both, and the memory of that: 8,192 tokens, and 2,048 where
              full logits of 8,192 do not fit (about 30 GB)
    linear    time per token from 1k to 32k packed tokens of sequences of one length
    prompts   what sharing prompts saves

Every number is made in a process of its own, so that peak memory is its own: what the process held at most while it computed minus
what it held before (on CUDA: torch's peak minus what was allocated). Seconds are the best of --repeats after one warm-up pass; without a
GPU they are the process's own processor time, which other work on the machine disturbs less: set OMP_NUM_THREADS=1.
"""

import argparse
import json
import platform
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

SIZES = {
    "0.5M": {"hidden_size": 128, "num_hidden_layers": 2, "intermediate_size": 512, "num_attention_heads": 4, "head_dim": 32},
    "15M": {"hidden_size": 384, "num_hidden_layers": 8, "intermediate_size": 1152, "num_attention_heads": 6, "head_dim": 64},
    "0.6B": {"hidden_size": 1024, "num_hidden_layers": 28, "intermediate_size": 3072, "num_attention_heads": 16, "head_dim": 128},
    "1.7B": {"hidden_size": 2048, "num_hidden_layers": 28, "intermediate_size": 6144, "num_attention_heads": 16, "head_dim": 128},
}


def model_of(size: str, vocabulary: int, device: str) -> Any:
    """A random Qwen3, tied, its body of the given size."""
    from transformers import Qwen3Config, Qwen3ForCausalLM

    torch.manual_seed(0)
    shape = SIZES[size]
    config = Qwen3Config(
        vocab_size=vocabulary,
        num_key_value_heads=shape["num_attention_heads"] // 2,
        max_position_embeddings=65536,
        tie_word_embeddings=True,
        attn_implementation="sdpa",
        **shape,
    )
    with torch.device(device):
        return Qwen3ForCausalLM(config)


def rollouts(groups: int, size: int, prompt: int, longest: int, vocabulary: int, fixed: bool = False) -> Any:
    """Groups of random tokens whose lengths are log-normal around a quarter of the longest, cut there; one mixed reward per group."""
    from asym_lightning.types import Completion, Kind, Problem, Prompt, RolloutGroup, Verdict

    generator = torch.Generator().manual_seed(0)
    lengths = (torch.randn(groups, size, generator=generator) * 0.8).exp() * longest / 4
    lengths = torch.full_like(lengths, longest) if fixed else lengths.clamp(1, longest)

    def ids(n: int) -> list[int]:
        return torch.randint(vocabulary, (n,), generator=generator).tolist()

    made = []
    for g in range(groups):
        completions = [Completion(ids(int(n)), [0.0] * int(n), "", False) for n in lengths[g]]
        verdicts = [Verdict(float(i % 2), Kind.CORRECT if i % 2 else Kind.WRONG) for i in range(size)]
        made.append(RolloutGroup(Prompt(Problem(str(g), "", ""), tuple(ids(prompt))), completions, verdicts))
    return made


def ours(given: argparse.Namespace) -> tuple[Callable[[], float], int]:
    """The policy's own scoring and packing; tokens of completions."""
    from asym_lightning.algorithms import Algorithm, BetaFamily, PPOClip, TokenMean
    from asym_lightning.learner.optimizer import OptimizerSettings
    from asym_lightning.learner.packing import micro_batches
    from asym_lightning.learner.policy import PolicyModule

    groups = rollouts(given.groups, given.group_size, given.prompt, given.longest, given.vocabulary, given.fixed)
    method = Algorithm("bench", BetaFamily(0.9, 0.4), PPOClip(), TokenMean())
    model = model_of(given.size, given.vocabulary, given.device)
    policy = PolicyModule(model, method, OptimizerSettings(1e-6), 1.0, 1.0, given.checkpointing)
    everyone = [True] * (given.groups * given.group_size)
    packed = micro_batches(groups, given.budget, everyone, share_prompts=not given.apart)
    micros = [micro.to(torch.device(given.device)) for micro in packed]
    count = sum(micro.targets.numel() for micro in micros)

    useful = count + sum(len(g.prompt.token_ids) - len(g.completions) for g in groups)

    def step() -> float:
        policy.zero_grad(set_to_none=True)
        for micro in micros:
            with torch.autocast(given.device, torch.bfloat16, enabled=given.bf16):
                scores = policy.score(micro)
            ((scores.logp * (micro.rows % 2 * 2 - 1)).sum() / count).backward()
        return 1 - useful / sum(micro.input_ids.numel() for micro in micros)

    return step, count


def plain(given: argparse.Namespace) -> tuple[Callable[[], float], int]:
    """Rows padded to the longest of their micro-batch, full logits, entropy for the metric only."""
    groups = rollouts(given.groups, given.group_size, given.prompt, given.longest, given.vocabulary, given.fixed)
    model = model_of(given.size, given.vocabulary, given.device).train()
    if given.checkpointing:
        model.gradient_checkpointing_enable({"use_reentrant": False})
    rows = [([*g.prompt.token_ids, *c.token_ids], len(c.token_ids), i % 2 * 2 - 1) for g in groups for i, c in enumerate(g.completions)]
    count = sum(n for _, n, _ in rows)
    per_micro = max(1, given.budget // (given.prompt + given.longest))
    micros = []
    for part in (rows[i : i + per_micro] for i in range(0, len(rows), per_micro)):
        width = max(len(ids) for ids, _, _ in part)
        ids = torch.tensor([ids + [0] * (width - len(ids)) for ids, _, _ in part])
        seen = torch.tensor([[1] * len(ids) + [0] * (width - len(ids)) for ids, _, _ in part])
        scored = torch.tensor([[0] * (len(ids) - n) + [1] * n + [0] * (width - len(ids)) for ids, n, _ in part])
        sign = torch.tensor([sign for _, _, sign in part])
        micros.append([x.to(given.device) for x in (ids, seen, scored, sign)])
    computed = sum(m[0].numel() for m in micros)
    useful = count + sum(len(g.prompt.token_ids) - len(g.completions) for g in groups)

    def step() -> float:
        model.zero_grad(set_to_none=True)
        for ids, seen, scored, sign in micros:
            with torch.autocast(given.device, torch.bfloat16, enabled=given.bf16):
                logits = model(input_ids=ids, attention_mask=seen, use_cache=False).logits[:, :-1]
            full = logits.float().log_softmax(-1)
            logp = full.gather(-1, ids[:, 1:, None])[..., 0]
            with torch.no_grad():
                -(full.exp() * full).sum(-1)
            ((logp * sign[:, None] * scored[:, 1:]).sum() / count).backward()
        return 1 - useful / computed

    return step, count


def head(given: argparse.Namespace) -> tuple[Callable[[], float], int]:
    """Log-prob and entropy with gradients, from hidden states and an output head alone."""
    from asym_lightning.learner.logprob import token_logprobs

    n, v, d = given.budget, given.vocabulary, SIZES[given.size]["hidden_size"]
    torch.manual_seed(0)
    kind = torch.bfloat16 if given.bf16 else torch.float32
    hidden = torch.randn(n, d, device=given.device, dtype=kind).requires_grad_()
    weight = (torch.randn(v, d, device=given.device, dtype=kind) * 0.05).requires_grad_()
    targets = torch.randint(v, (n,), device=given.device)

    def chunked() -> float:
        hidden.grad = weight.grad = None
        logp, entropy, _ = token_logprobs(hidden, weight, targets, entropy_grad=True)
        (logp.mean() + entropy.mean()).backward()
        return 0.0

    def full() -> float:
        hidden.grad = weight.grad = None
        logits = (hidden @ weight.T).float().log_softmax(-1)
        entropy = -(logits.exp() * logits).sum(-1)
        (logits.gather(1, targets[:, None]).mean() + entropy.mean()).backward()
        return 0.0

    return full if given.what == "full" else chunked, n


class Peak:
    """The most memory that is held while the block runs, above what was held before (bytes)."""

    def __init__(self, device: str):
        import psutil

        self.device, self.process = device, psutil.Process()

    def __enter__(self) -> "Peak":
        self.done = threading.Event()
        if self.device == "cuda":
            torch.cuda.reset_peak_memory_stats()
            self.before = torch.cuda.memory_allocated()
        else:
            self.before = self.most = self.process.memory_info().rss
            self.thread = threading.Thread(target=self._watch, daemon=True)
            self.thread.start()
        return self

    def _watch(self) -> None:
        while not self.done.wait(0.005):
            self.most = max(self.most, self.process.memory_info().rss)

    def __exit__(self, *_: Any) -> None:
        self.done.set()
        if self.device == "cuda":
            self.most = torch.cuda.max_memory_allocated()
        else:
            self.thread.join()
        self.bytes = self.most - self.before


def child(given: argparse.Namespace) -> None:
    """Measure one case; one JSON line. Freed memory is kept, as a run does."""
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
    print(json.dumps({"seconds": seconds, "tokens": tokens, "peak_bytes": peak.bytes, "waste": waste}))


def measure(what: str, **settings: Any) -> dict[str, Any]:
    """Run a case in a process of its own; {"error": ...} where that one fails (out of memory)."""
    command = [sys.executable, __file__, "--what", what]
    for name, value in settings.items():
        command += [f"--{name.replace('_', '-')}"] + ([] if value is True else [str(value)]) if value is not False else []
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        return {"error": (done.stderr.strip().splitlines() or [f"status {done.returncode}"])[-1][:200]}
    return json.loads(done.stdout.strip().splitlines()[-1])


def compare(label: str, pair: tuple[str, str], out: list[dict[str, Any]], **settings: Any) -> None:
    """One row: the second of the pair over the first."""
    a, b = (measure(what, **settings) for what in pair)
    row = {"case": label, "settings": settings, pair[0]: a, pair[1]: b}
    out.append(row)
    if "error" in a or "error" in b:
        print(f"{label}: {pair[0]} {a.get('error', 'ok')}; {pair[1]} {b.get('error', 'ok')}", flush=True)
        return
    row["ratio"] = {name: b[name] / max(a[name], 1e-9) for name in ("seconds", "peak_bytes")}
    print(
        f"{label}: {pair[0]} {a['seconds']:.3f} s, {a['peak_bytes'] / 2**20:,.0f} MiB; {pair[1]} {b['seconds']:.3f} s, "
        f"{b['peak_bytes'] / 2**20:,.0f} MiB; {pair[1]} / {pair[0]}: time {row['ratio']['seconds']:.2f}, "
        f"memory {row['ratio']['peak_bytes']:.2f}; wasted tokens {a['waste']:.1%}, {b['waste']:.1%}",
        flush=True,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", default=["learn", "head", "linear", "prompts"])
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--json", type=Path, default=None, help="write everything here")
    hidden = {"what": (str, None), "size": (str, "15M"), "vocabulary": (int, 32768), "groups": (int, 4), "group_size": (int, 8)}
    hidden |= {"prompt": (int, 64), "longest": (int, 512), "budget": (int, 16384)}
    for name, (kind, default) in hidden.items():
        parser.add_argument(f"--{name.replace('_', '-')}", type=kind, default=default, help=argparse.SUPPRESS)
    for name in ("bf16", "apart", "checkpointing", "fixed"):
        parser.add_argument(f"--{name}", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.what:
        child(given)
        return
    base = {"device": given.device, "repeats": given.repeats}
    gpu = given.device == "cuda"
    rows: list[dict[str, Any]] = []
    threads = f"{torch.get_num_threads()} threads" if not gpu else torch.cuda.get_device_name()
    print(f"{platform.machine()}, {threads}, torch {torch.__version__}", flush=True)
    for bf16 in (True,) if gpu else (False, True):
        precision = "bf16" if bf16 else "fp32"
        if "learn" in given.parts:
            bodies = [("0.6B", 151936, 4096, 32768, 2), ("1.7B", 151936, 4096, 16384, 2)] if gpu else []
            bodies += [("0.5M", 258, 32, 2048, 32), ("15M", 32768, 512, 4096, 2), ("15M", 151936, 512, 4096, 1)] if not gpu else []
            for size, vocabulary, longest, budget, groups in bodies:
                shape = {"size": size, "vocabulary": vocabulary, "longest": longest, "budget": budget, "groups": groups}
                shape["prompt"] = min(longest // 4, 96)
                compare(f"learn, {precision}, {shape}", ("ours", "plain"), rows, **shape, bf16=bf16, checkpointing=gpu, **base)
        if "head" in given.parts:
            for tokens in (2048, 8192):
                shape = {"size": "15M", "vocabulary": 151936, "budget": tokens, "bf16": bf16, **base}
                if gpu or tokens == 2048:
                    compare(f"head, {precision}, {tokens:,} tokens x 151,936", ("chunked", "full"), rows, **shape)
                else:
                    got = measure("chunked", **shape)
                    rows.append({"case": f"head {precision} {tokens}", "chunked": got})
                    peak = got["peak_bytes"] / 2**20
                    print(f"head, {precision}, {tokens:,} tokens x 151,936: chunked {got['seconds']:.3f} s, {peak:,.0f} MiB", flush=True)
    if "linear" in given.parts:
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
            print(f"linear, {tokens} packed tokens: {1e6 * got['seconds'] / tokens:.2f} us per token", flush=True)
    if "prompts" in given.parts:
        for prompt, longest in ((64, 512), (512, 512), (1024, 256)):
            shape = {"size": "15M", "vocabulary": 1024, "prompt": prompt, "longest": longest, "group_size": 8, "budget": 16384, **base}
            shared, apart = measure("ours", **shape), measure("ours", **shape, apart=True)
            rows.append({"case": f"prompts {prompt} {longest}", "ours": shared, "apart": apart})
            print(
                f"prompts of {prompt}, up to {longest} more, G = 8: shared {shared['seconds']:.2f} s, apart {apart['seconds']:.2f} s; "
                f"ratio {apart['seconds'] / shared['seconds']:.2f}",
                flush=True,
            )
    if given.json:
        given.json.parent.mkdir(parents=True, exist_ok=True)
        given.json.write_text(
            json.dumps({"torch": torch.__version__, "machine": platform.machine(), "threads": threads, "rows": rows}, indent=1)
        )


if __name__ == "__main__":
    main()
