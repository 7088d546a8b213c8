"""The memory of a run on each GPU, by arithmetic: `python benchmarks/memory.py`.

It prints the table of docs/scaling.md. Nothing is measured.
"""

import argparse
from dataclasses import dataclass

from asym_lightning.learner.logprob import LOGITS_PER_CHUNK

GB = 1e9


@dataclass(frozen=True)
class Shape:
    """The numbers in config.json of a decoder with grouped key-value heads and a gated MLP."""

    hidden: int
    layers: int
    heads: int
    kv_heads: int
    head_dim: int
    intermediate: int
    vocabulary: int
    tied: bool

    @property
    def layer(self) -> int:
        """Parameters of one layer, norms left out."""
        attention = 2 * self.hidden * self.head_dim * (self.heads + self.kv_heads)
        return attention + 3 * self.hidden * self.intermediate

    @property
    def outside(self) -> int:
        """Parameters of embedding and output head."""
        return self.hidden * self.vocabulary * (1 if self.tied else 2)

    @property
    def parameters(self) -> int:
        return self.layers * self.layer + self.outside


@dataclass(frozen=True)
class Setting:
    """Settings of a run: ``ranks`` share the policy (1: every rank holds all of it)."""

    ranks: int
    tokens: int  # policy.tokens_per_micro_batch
    sequences: int  # decoded at once at full length
    length: int  # prompt and completion


SHAPES = {
    "Qwen3-0.6B": Shape(1024, 28, 16, 8, 128, 3072, 151936, True),
    "Qwen2.5-Math-1.5B": Shape(1536, 28, 12, 2, 128, 8960, 151936, True),
    "Qwen3-4B": Shape(2560, 36, 32, 8, 128, 9728, 151936, True),
    "Qwen3-8B": Shape(4096, 36, 32, 8, 128, 12288, 151936, False),
    "Qwen3-14B": Shape(5120, 40, 40, 8, 128, 17408, 151936, False),
    "Qwen3-32B": Shape(5120, 64, 64, 8, 128, 25600, 151936, False),
}


def parts(shape: Shape, setting: Setting) -> dict[str, float]:
    """GB on each GPU, by what they hold."""
    state = 16 * shape.parameters / setting.ranks  # fp32: weights, gradients, two moments
    gathered = 0.0
    # Two layers (one is fetched ahead) and the group outside of layers; the gradients of the larger
    # of the two.
    if setting.ranks > 1:
        gathered = 4 * (2 * shape.layer + shape.outside + max(shape.layer, shape.outside))
    # With gradient checkpointing: the input of each layer.
    kept = 4 * setting.tokens * shape.hidden * shape.layers
    width = (
        4 * shape.hidden
        + shape.head_dim * (2 * shape.heads + 2 * shape.kv_heads)
        + 4 * shape.intermediate
    )
    # Those inputs and the inside of one layer.
    activations = kept + 4 * setting.tokens * width
    # A chunk of logits, and the output head's gradient, twice during its computation.
    logits = 4 * 4 * LOGITS_PER_CHUNK + 2 * 4 * shape.hidden * shape.vocabulary
    cache = (
        2 * 2 * shape.layers * shape.kv_heads * shape.head_dim * setting.sequences * setting.length
    )
    return {
        "policy": state / GB,
        "gathered": gathered / GB,
        "activations": (activations + logits) / GB,
        "engine": 2 * shape.parameters / GB,
        "cache": cache / GB,
    }


def table(tokens: int, sequences: int, length: int) -> str:
    """A row per model and number of ranks."""
    lines = [
        "| model | ranks | policy | gathered | activations | engine's weights | its cache | all | "
        "all, 8 ranks per engine |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for name, shape in SHAPES.items():
        for ranks in (1, 8, 32):
            found = parts(shape, Setting(ranks, tokens, sequences, length))
            cells = [f"{value:.1f}" for value in (*found.values(), sum(found.values()))]
            # Each rank of an engine has an eighth of every layer.
            shared = sum(found.values()) - 7 / 8 * (found["engine"] + found["cache"])
            cells.append(f"{shared:.1f}" if ranks % 8 == shape.kv_heads % 8 == 0 else "-")
            lines.append(
                f"| {name} ({shape.parameters / 1e9:.2f}) | {ranks} | " + " | ".join(cells) + " |"
            )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tokens", type=int, default=16384, help="policy.tokens_per_micro_batch")
    parser.add_argument(
        "--sequences", type=int, default=16, help="completions decoded at once at full length"
    )
    parser.add_argument(
        "--length", type=int, default=4096, help="longest prompt and completion together"
    )
    given = parser.parse_args()
    print(table(given.tokens, given.sequences, given.length))


if __name__ == "__main__":
    main()
