"""The learner's work: tokens and FLOPs computed, and the part that was needed."""

from dataclasses import dataclass
from typing import Any

import torch

from asym_lightning.learner.batch import PackedBatch, StepRecord

# Peak FLOP/s by dtype, from NVIDIA's data sheet; Lightning's table has no entry for the H200.
_H200 = {
    torch.bfloat16: 989.4e12,
    torch.float16: 989.4e12,
    torch.float32: 67e12,
}
TIMED_PHASES = ("sync", "generate", "verify", "sleep", "score", "learn", "log")


@dataclass(frozen=True)
class Work:
    """The work of one optimizer step.

    ``computed``: tokens that went through the model.
    ``useful``: tokens that had to, each prompt once per mini-batch.
    ``completion_tokens``: tokens with a log-prob.
    ``flops``: those of matrix products and attention; a multiply-add counts as two.
    """

    computed: int
    useful: int
    completion_tokens: int
    flops: float


def step_work(record: StepRecord, config: Any) -> Work:
    """The work of one optimizer step on this rank.

    A backward pass counts as two forward passes; recomputed activations do not count.
    """
    batch, micro_batches = record.batch, record.micro_batches
    size = batch.rewards.shape[1]
    rows = record.rows.unique().tolist()
    # The last token of a completion is a target only, not an input.
    inputs = 0
    for row in rows:
        completion = batch.groups[row // size].completions[row % size]
        inputs += max(0, len(completion.token_ids) - 1)
    groups = {row // size for row in rows}
    prompts = sum(len(batch.groups[group].prompt.token_ids) for group in groups)
    flops = sum(
        forward_flops(micro, config) * (3 if learned else 1)
        for micro, learned in zip(micro_batches, record.learned, strict=True)
    )
    return Work(
        computed=sum(micro.input_ids.numel() for micro in micro_batches),
        useful=inputs + prompts,
        completion_tokens=sum(micro.targets.numel() for micro in micro_batches),
        flops=flops,
    )


def forward_flops(micro: PackedBatch, config: Any) -> float:
    """FLOPs of one forward pass of a decoder with gated MLPs over a micro-batch.

    2 per weight and token, and attention within the sequences.
    """
    hidden, heads = config.hidden_size, config.num_attention_heads
    head_size = getattr(config, "head_dim", None) or hidden // heads
    kv_heads = getattr(config, "num_key_value_heads", None) or heads
    mlp_size = getattr(config, "intermediate_size", None) or 4 * hidden
    layer_weights = hidden * head_size * (2 * heads + 2 * kv_heads) + 3 * hidden * mlp_size
    segments = micro.layout.segments if micro.layout is not None else ()
    pairs = sum(s.length * s.prefix + s.length * (s.length + 1) // 2 for s in segments)
    multiply_adds = (
        micro.input_ids.numel() * layer_weights * config.num_hidden_layers
        + micro.targets.numel() * hidden * config.vocab_size
    )
    return 2.0 * multiply_adds + 4.0 * pairs * heads * head_size * config.num_hidden_layers


def rates(metrics: dict[str, float], peak_flops: float | None, world: int) -> dict[str, float]:
    """Rates and time shares of an iteration, from its counts and times.

    Args:
        metrics: metrics of the iteration, seconds under ``time/*``; the counts are removed from it.
        peak_flops: peak FLOP/s of one device in the precision in use, None if unknown.
        world: number of devices.
    """
    learned = metrics.pop("throughput/learned_tokens", None)
    flops = metrics.pop("throughput/flops", None)
    seconds = metrics["time/iteration"]
    result = {"throughput/tokens_per_s": metrics.pop("throughput/generated_tokens") / seconds}
    for phase in TIMED_PHASES:
        if f"time/{phase}" in metrics:
            result[f"time_share/{phase}"] = metrics[f"time/{phase}"] / seconds
    if learned is not None and flops is not None:
        result["throughput/learned_tokens_per_s"] = learned / metrics["time/learn"]
        result["throughput/learn_tflops"] = flops / metrics["time/learn"] / world / 1e12
        if peak_flops:
            result["throughput/mfu"] = flops / metrics["time/learn"] / world / peak_flops
    return result


def peak_flops(device: torch.device, precision: str) -> float | None:
    """Peak FLOP/s of a known GPU in a Lightning precision; None for other GPUs and for CPUs."""
    from lightning.fabric.utilities.throughput import get_available_flops

    if device.type != "cuda":
        return None
    if "bf16" in precision:
        dtype = torch.bfloat16
    elif "16" in precision:
        dtype = torch.float16
    else:
        dtype = torch.float32
    if torch.cuda.get_device_name(device) == "NVIDIA H200":
        return _H200[dtype]
    available = get_available_flops(device, dtype)
    return float(available) if available else None
