"""What the doctor starts: the jail of the math verifier, and a rollout engine in a process of its own.

`python -m asym_lightning.doctor.running` is that process: an engine that crashes or hangs must not take the doctor with it.
"""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from asym_lightning.doctor.machine import Finding, one_line

BOMB = "9^{9^{9^9}}"
ENGINE_SECONDS = 120.0
GAP_LIMIT = {"cpu": 1e-4, "cuda": 1e-2}  # nats, float32; random weights that were not synced differ by whole nats
MARK = "engine probe: "
PROBE = (sys.executable, "-m", "asym_lightning.doctor.running")
PROMPTS = [[55, 55, 49, 53], [49, 50, 51], [57]]


def check_jail(verifier: Any) -> Finding:
    """A right answer is scored as right, and one that would compute for ever is cut off. ``verifier`` is a MathVerifier."""
    answers = ["\\boxed{\\frac{1}{2}}", f"\\boxed{{{BOMB}}}"]
    try:
        right, hanging = (str(verdict.kind) for verdict in verifier.score(answers, ["0.5", "1"], [False, False]))
    except RuntimeError as error:
        return Finding("jail", False, one_line(error), "math answers cannot be scored: pip install 'math-verify==0.9.*' sympy")
    finally:
        verifier.close()
    from asym_lightning.verify import jail

    held = jail.obstacle()
    kept = f"the kernel's jail does not hold: {held}" if held else "the kernel keeps it from files, sockets and programs"
    seen = f"1/2 = 0.5 is {right}, {BOMB} is {hanging}; {kept}"
    fine = (right, hanging) == ("correct", "timeout")
    if fine and held and sys.platform == "linux":
        return Finding("jail", False, seen, "allow seccomp filters here (containers: no seccomp=... profile that forbids them)")
    return Finding("jail", fine, seen, "" if fine else "expected correct and timeout; math-verify 0.9 is what this project was tested with")


def gap(policy: Any, engine: Any, seed: int) -> float:
    """Largest difference (nats) between the log-probs that the engine reports of its samples and the policy's own."""
    import torch

    from asym_lightning.learner.packing import pack
    from asym_lightning.rollout.base import Sampling
    from asym_lightning.types import Completion

    sampling = Sampling(n=4, max_tokens=12, temperature=1.0, stop_ids=(257,))
    drawn = engine.generate(PROMPTS, sampling, [seed + i for i in range(len(PROMPTS))])
    batch = pack([(0, p, Completion(s.token_ids, s.logprobs, "", False)) for p, row in zip(PROMPTS, drawn, strict=True) for s in row])
    with torch.no_grad():
        return float((policy.score(batch).logp - batch.engine_logp).abs().max())


def sync_gaps(policy: Any, engine: Any) -> dict[str, float]:
    """The gap after a sync, after the policy's weights have changed (``stale``), and after syncing again (``again``)."""
    import torch

    engine.sync(policy.weights(), 0)
    first = gap(policy, engine, 1)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in policy.parameters():
            parameter += 0.2 * torch.randn(parameter.shape, generator=generator)
    stale = gap(policy, engine, 2)
    engine.sync(policy.weights(), 0)
    return {"first": first, "stale": stale, "again": gap(policy, engine, 3)}


def check_sync(gaps: dict[str, float], limit: float) -> Finding:
    """What :func:`sync_gaps` found; changed weights must show before the second sync and be gone after it."""
    synced = max(gaps["first"], gaps["again"])
    seen = f"log-probs of engine and policy differ by {synced:.1e} after a sync, by {gaps['stale']:.1e} without one"
    if synced <= limit < gaps["stale"]:
        return Finding("weight sync", True, seen)
    if gaps["stale"] <= limit:
        return Finding("weight sync", False, seen, "changed weights do not show: the check itself is broken; report this line")
    todo = "the engine's weights are not the policy's: install the known-good versions, or use rollout=transformers"
    return Finding("weight sync", False, f"{seen} (limit {limit:g})", todo)


def probe() -> dict[str, Any]:
    """Start an engine on the embedded policy's architecture (tied embeddings) with random weights, and measure its sync."""
    import torch

    from asym_lightning.algorithms import Algorithm, BetaFamily, PPOClip, TokenMean
    from asym_lightning.learner.embedded import EmbeddedSettings, build_model, byte_tokenizer
    from asym_lightning.learner.optimizer import OptimizerSettings
    from asym_lightning.learner.policy import PolicyModule

    with TemporaryDirectory() as folder:
        tokenizer = byte_tokenizer()
        model = build_model(EmbeddedSettings(), tokenizer)
        model.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
        method = Algorithm("doctor", BetaFamily(0.9, 0.4), PPOClip(), TokenMean())
        policy = PolicyModule(model, method, OptimizerSettings(1e-3), 1.0, 1.0)
        start = time.perf_counter()
        engine = make_engine(folder)
        seconds = time.perf_counter() - start
        device = "cuda" if torch.cuda.is_available() else "cpu"
        return {"engine": type(engine).__name__, "seconds": seconds, "device": device, "gaps": sync_gaps(policy, engine)}


def make_engine(folder: str) -> Any:
    """The engine that a run on this machine would use."""
    import torch

    if find_spec("vllm") is None:
        from asym_lightning.rollout.transformers import TransformersEngine

        return TransformersEngine(folder, "float32", 64, "cuda" if torch.cuda.is_available() else "cpu")
    from asym_lightning.rollout.vllm import VLLMEngine

    return VLLMEngine(folder, "float32", 64, 64)


def check_engine(command: Sequence[str] = PROBE, seconds: float = ENGINE_SECONDS) -> list[Finding]:
    """Run the probe as a process of its own, for at most so many seconds; the engine's line and that of the weight sync."""
    environment = os.environ | {"HF_HUB_OFFLINE": "1"}
    folder = Path(__file__).resolve().parents[2]
    try:
        done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=seconds, check=False)
    except subprocess.TimeoutExpired:
        todo = "see whether another process holds the CPU cores or the GPU, then try again"
        return [Finding("engine", False, f"no answer within {seconds:g} s", todo)]
    found = [line.removeprefix(MARK) for line in done.stdout.splitlines() if line.startswith(MARK)]
    if not found:
        seen = f"does not start (status {done.returncode}): {one_line(done.stderr or done.stdout)}"
        return [Finding("engine", False, seen, engine_advice(done.stderr + done.stdout, done.returncode))]
    result = json.loads(found[-1])
    started = Finding("engine", True, f"{result['engine']} on {result['device']}, started in {result['seconds']:.0f} s")
    return [started, check_sync(result["gaps"], GAP_LIMIT[result["device"]])]


def engine_advice(output: str, status: int) -> str:
    """What to do about an engine that does not start."""
    text = output.lower()
    known = [
        ("torchvision" in text or "torchaudio" in text or "torchcodec" in text, "pip uninstall torchvision torchaudio torchcodec"),
        ("vllm_cpu_kvcache_space" in text, "free main memory, or lower VLLM_CPU_KVCACHE_SPACE (in a run: rollout.kv_cache_gb)"),
        ("out of memory" in text or "free memory on device" in text, "free the GPU's memory: `nvidia-smi` shows who holds it"),
        ("glibc" in text, "this system's C library is older than the vLLM wheel needs: use a newer distribution or a container"),
        (status == -signal.SIGKILL, "the process was killed, most likely for memory: free main memory"),
        (status == -signal.SIGILL, "this processor lacks instructions that vLLM's build needs: use rollout=transformers"),
        (True, "make clean, make install; if it fails again: rollout=transformers trains without vLLM"),
    ]
    return next(advice for applies, advice in known if applies)


if __name__ == "__main__":
    print(MARK + json.dumps(probe()), flush=True)
