"""Checks of the doctor that start processes: the jail of the math verifier, and a rollout engine.

The engine runs in `python -m asym_lightning.doctor.running`, so that the doctor survives its crash.
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

ENDLESS = "\\sum_{n=1}^{10^9} n!"
ENGINE_SECONDS = 120.0
# Nats, in float32. Log-probs of random weights that were not synced differ by some nats.
GAP_LIMIT = {"cpu": 1e-4, "cuda": 1e-2}
MARK = "engine probe: "
PROBE = (sys.executable, "-m", "asym_lightning.doctor.running")
PROMPTS = [[55, 55, 49, 53], [49, 50, 51], [57]]


def check_jail(verifier: Any) -> Finding:
    """Check that answers are scored within limits, and that the kernel confines the scorer.

    A correct answer must be scored as correct, and an expression that would take for ever to
    evaluate must time out. Without Linux there is no kernel's jail, and the check passes.

    Args:
        verifier: a MathVerifier; it is closed.
    """
    completions = ["\\boxed{\\frac{1}{2}}", f"\\boxed{{{ENDLESS}}}"]
    try:
        verdicts = verifier.score(completions, ["0.5", "1"], [False, False])
        half, endless = (str(verdict.kind) for verdict in verdicts)
    except RuntimeError as error:
        todo = "math answers cannot be scored: pip install 'math-verify==0.9.*' sympy"
        return Finding("jail", False, one_line(error), todo=todo)
    finally:
        verifier.close()
    from asym_lightning.verify import jail

    obstacle = jail.obstacle()
    state = "the kernel keeps the scorer from files, sockets and programs"
    if obstacle:
        state = f"the kernel's jail does not hold: {obstacle}"
    seen = f"1/2 = 0.5 is {half}, {ENDLESS} is {endless}; {state}"
    if (half, endless) != ("correct", "timeout"):
        todo = "expected correct and timeout; install math-verify 0.9"
        return Finding("jail", False, seen, todo=todo)
    if obstacle and sys.platform == "linux":
        todo = "allow seccomp filters; start a container without a profile that forbids them"
        return Finding("jail", False, seen, todo=todo)
    return Finding("jail", True, seen)


def gap(policy: Any, engine: Any, seed: int) -> float:
    """Return the largest |engine - policy| log-probability of a sampled token (nats)."""
    import torch

    from asym_lightning.learner.packing import pack
    from asym_lightning.rollout.base import Sampling
    from asym_lightning.types import Completion

    sampling = Sampling(n=4, max_tokens=12, temperature=1.0, stop_ids=(257,))
    groups = engine.generate(PROMPTS, sampling, [seed + i for i in range(len(PROMPTS))])
    rows = []
    for prompt, samples in zip(PROMPTS, groups, strict=True):
        for sample in samples:
            completion = Completion(sample.token_ids, sample.logprobs, "", truncated=False)
            rows.append((0, prompt, completion))
    batch = pack(rows)
    with torch.no_grad():
        return float((policy.score(batch).logp - batch.engine_logp).abs().max())


def sync_gaps(policy: Any, engine: Any) -> dict[str, float]:
    """Return the gaps after a sync, after a change of the policy's weights, and after another sync.

    Returns:
        Gaps (nats) by ``first``, ``stale`` and ``again``.
    """
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
    """Check the gaps of :func:`sync_gaps`: only stale weights may cause a gap above ``limit``."""
    synced, stale = max(gaps["first"], gaps["again"]), gaps["stale"]
    seen = (
        f"log-probs of engine and policy differ by {synced:.1e} after a sync, "
        f"by {stale:.1e} without one"
    )
    if synced <= limit < stale:
        return Finding("weight sync", True, seen)
    if stale <= limit:
        todo = "changed weights do not show: the check itself is broken; report this line"
        return Finding("weight sync", False, seen, todo=todo)
    todo = (
        "the engine's weights are not the policy's: install the known-good versions, "
        "or use rollout=transformers"
    )
    return Finding("weight sync", False, f"{seen} (limit {limit:g})", todo=todo)


def probe() -> dict[str, Any]:
    """Start an engine, and measure the sync of weights to it.

    The model has the architecture of the embedded policy (tied embeddings) and random weights.
    """
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
        algorithm = Algorithm("doctor", BetaFamily(0.9, 0.4), PPOClip(), aggregation=TokenMean())
        policy = PolicyModule(
            model, algorithm, OptimizerSettings(1e-3), temperature=1.0, logprob_gap_limit=1.0
        )
        start = time.perf_counter()
        engine = make_engine(folder)
        seconds = time.perf_counter() - start
        device = "cuda" if torch.cuda.is_available() else "cpu"
        return {
            "engine": type(engine).__name__,
            "seconds": seconds,
            "device": device,
            "gaps": sync_gaps(policy, engine),
        }


def make_engine(folder: str) -> Any:
    """Start the engine that a run on this machine would use."""
    import torch

    if find_spec("vllm") is None:
        from asym_lightning.rollout.transformers import TransformersEngine

        device = "cuda" if torch.cuda.is_available() else "cpu"
        return TransformersEngine(folder, "float32", 64, device=device)
    from asym_lightning.rollout.vllm import VLLMEngine

    return VLLMEngine(folder, "float32", 64, max_num_seqs=64)


def probed(
    command: Sequence[str], mark: str, seconds: float, **environment: str
) -> tuple[Any, subprocess.CompletedProcess[str]]:
    """Run a probe in a process; return what it printed as JSON behind the mark, and the process.

    None for a probe that ended without it.

    Raises:
        TimeoutExpired: it took longer.
    """
    process = subprocess.run(
        command,
        cwd=Path(__file__).resolve().parents[2],
        env=os.environ | environment,
        capture_output=True,
        text=True,
        timeout=seconds,
        check=False,
    )
    lines = [line for line in process.stdout.splitlines() if line.startswith(mark)]
    return (json.loads(lines[-1].removeprefix(mark)) if lines else None), process


def check_engine(command: Sequence[str] = PROBE, seconds: float = ENGINE_SECONDS) -> list[Finding]:
    """Run the probe in a process, for at most so many seconds.

    Returns:
        The findings on the engine and on the weight sync.
    """
    try:
        result, process = probed(command, MARK, seconds, HF_HUB_OFFLINE="1")
    except subprocess.TimeoutExpired:
        todo = "see whether another process holds the CPU cores or the GPU, then try again"
        return [Finding("engine", False, f"no answer within {seconds:g} s", todo=todo)]
    if result is None:
        message = one_line(process.stderr or process.stdout)
        seen = f"does not start (status {process.returncode}): {message}"
        todo = engine_advice(process.stderr + process.stdout, process.returncode)
        return [Finding("engine", False, seen, todo=todo)]
    seen = f"{result['engine']} on {result['device']}, started in {result['seconds']:.0f} s"
    sync = check_sync(result["gaps"], GAP_LIMIT[result["device"]])
    return [Finding("engine", True, seen), sync]


def engine_advice(output: str, status: int) -> str:
    """Return what to do about an engine that does not start."""
    text = output.lower()
    if "torchvision" in text or "torchaudio" in text or "torchcodec" in text:
        return "pip uninstall torchvision torchaudio torchcodec"
    if "vllm_cpu_kvcache_space" in text:
        return "free main memory, or lower VLLM_CPU_KVCACHE_SPACE (in a run: rollout.kv_cache_gb)"
    if "out of memory" in text or "free memory on device" in text:
        return "free the GPU's memory: `nvidia-smi` lists the processes that hold it"
    if "glibc" in text:
        return (
            "this system's C library is older than the vLLM wheel needs: "
            "use a newer distribution or a container"
        )
    if status == -signal.SIGKILL:
        return "the process was killed, most likely for memory: free main memory"
    if status == -signal.SIGILL:
        return "this processor lacks instructions that vLLM's build needs: use rollout=transformers"
    return "make clean, make install; if it fails again: rollout=transformers trains without vLLM"


if __name__ == "__main__":
    print(MARK + json.dumps(probe()), flush=True)
