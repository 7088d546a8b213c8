"""What the learner computed, and what of it was needed."""

from dataclasses import dataclass
from typing import Any

import torch

from asym_lightning.learner.batch import MiniBatch, PackedBatch

_H200 = {torch.bfloat16: 989.4e12, torch.float16: 989.4e12, torch.float32: 67e12}  # NVIDIA's data sheet; Lightning's table has none
PHASES = ("sync", "generate", "verify", "sleep", "score", "learn", "log")


@dataclass(frozen=True)
class Work:
    """``computed``: tokens that went through the model; ``useful``: those that had to, each prompt once per mini-batch;
    ``completion_tokens``: those with a log-prob; ``flops``: of matrix products and attention, a multiply-add being two."""

    computed: int
    useful: int
    completion_tokens: int
    flops: float


def work_of(batch: MiniBatch, config: Any) -> Work:
    """The work of one optimizer step on this rank. A backward pass counts as two forward passes; recomputed activations do not count."""
    size = batch.rewards.shape[1]
    computed = sum(micro.input_ids.numel() for micro in batch.micro_batches)
    rows = batch.tokens("rows").unique().tolist()
    inputs = sum(max(0, len(batch.groups[row // size].completions[row % size].token_ids) - 1) for row in rows)
    prompts = sum(len(batch.groups[g].prompt.token_ids) for g in {row // size for row in rows})
    flops = sum(forward_flops(micro, config) * (3 if micro.learned else 1) for micro in batch.micro_batches)
    return Work(computed, inputs + prompts, sum(micro.targets.numel() for micro in batch.micro_batches), flops)


def forward_flops(micro: PackedBatch, config: Any) -> float:
    """Of one pass of a decoder with gated MLPs over a micro-batch: 2 per weight and token, and attention within the sequences."""
    hidden, heads = config.hidden_size, config.num_attention_heads
    head = getattr(config, "head_dim", None) or hidden // heads
    shared = getattr(config, "num_key_value_heads", None) or heads
    width = getattr(config, "intermediate_size", None) or 4 * hidden
    layer = hidden * head * (2 * heads + 2 * shared) + 3 * hidden * width
    segments = micro.layout.segments if micro.layout is not None else ()
    pairs = sum(s.length * s.prefix + s.length * (s.length + 1) // 2 for s in segments)
    tokens = micro.input_ids.numel() * layer * config.num_hidden_layers + micro.targets.numel() * hidden * config.vocab_size
    return 2.0 * tokens + 4.0 * pairs * heads * head * config.num_hidden_layers


def rates(metrics: dict[str, float], peak_flops: float | None, world: int) -> dict[str, float]:
    """What an iteration's counts and times say together.

    Args:
        metrics: of the iteration, seconds under ``time/*``; the counts are taken out.
        peak_flops: of one device in the precision in use, None where it is not known.
        world: number of devices.
    """
    learned, flops = metrics.pop("throughput/learned_tokens", None), metrics.pop("throughput/flops", None)
    seconds = metrics["time/iteration"]
    result = {"throughput/tokens_per_s": metrics.pop("throughput/generated_tokens") / seconds}
    result |= {f"time_share/{phase}": metrics[f"time/{phase}"] / seconds for phase in PHASES if f"time/{phase}" in metrics}
    if learned is not None and flops is not None:
        result["throughput/learned_tokens_per_s"] = learned / metrics["time/learn"]
        result["throughput/learn_tflops"] = flops / metrics["time/learn"] / world / 1e12
        if peak_flops:
            result["throughput/mfu"] = flops / metrics["time/learn"] / world / peak_flops
    return result


def peak_flops(device: torch.device, precision: str) -> float | None:
    """The most that a known GPU can do in a precision of Lightning's, per second; None on others and on CPUs."""
    from lightning.fabric.utilities.throughput import get_available_flops

    if device.type != "cuda":
        return None
    kind = torch.bfloat16 if "bf16" in precision else torch.float16 if "16" in precision else torch.float32
    if torch.cuda.get_device_name(device) == "NVIDIA H200":
        return _H200[kind]
    found = get_available_flops(device, kind)
    return float(found) if found else None
