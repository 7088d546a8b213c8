"""Tokens per second of the rollout callback against a bare `LLM.generate`.

`python benchmarks/generation.py` runs both on one engine in one run, and prints both rates and
their ratio. The callback's way is that of an iteration: sampling parameters, generation with
log-probs, token ids and log-probs into plain lists, decoding.
"""

import argparse
import statistics
import time
from typing import Any

from asym_lightning.runtime import setup

setup()  # before torch is imported, as train.py does

from asym_lightning.learner.embedded import EmbeddedSettings, byte_tokenizer, embedded_policy
from asym_lightning.rollout.base import Sampling, sampling_seed
from asym_lightning.rollout.groups import sample
from asym_lightning.rollout.vllm import VLLMEngine
from asym_lightning.tasks.countdown import PairsCountdown
from asym_lightning.types import Prompt


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--prompts", type=int, default=32)
    parser.add_argument("--group-size", type=int, default=8)
    parser.add_argument("--max-tokens", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--policy", default=None, help="a model folder; none: the embedded policy")
    given = parser.parse_args()
    task, tokenizer = PairsCountdown(), byte_tokenizer()
    engine = VLLMEngine(
        given.policy or str(embedded_policy(EmbeddedSettings())),
        "float32",
        64 + given.max_tokens,
        256,
    )
    sampling = Sampling(given.group_size, given.max_tokens, 1.0, (tokenizer.eos_token_id,))
    prompts = [Prompt(p, tuple(task.encode(p, tokenizer))) for p in task.train[: given.prompts]]
    inputs: Any = [{"prompt_token_ids": list(p.token_ids)} for p in prompts]

    from vllm import SamplingParams

    def bare(seeds: list[int]) -> int:
        options: dict[str, Any] = {
            "n": sampling.n,
            "temperature": 1.0,
            "max_tokens": sampling.max_tokens,
            "logprobs": 0,
        }
        params = [
            SamplingParams(**options, stop_token_ids=list(sampling.stop_ids), seed=seed)
            for seed in seeds
        ]
        return sum(
            len(o.token_ids)
            for r in engine.llm.generate(inputs, params, use_tqdm=False)
            for o in r.outputs
        )

    def ours(seeds: list[int]) -> int:
        return sum(
            len(c.token_ids)
            for row in sample(engine, tokenizer, prompts, sampling, seeds)
            for c in row
        )

    ways = {"bare LLM.generate": bare, "our generation": ours}
    rates: dict[str, list[float]] = {name: [] for name in ways}
    for turn in range(given.rounds + 2):
        seeds = [sampling_seed(0, turn, i) for i in range(len(prompts))]
        for name in sorted(ways, reverse=turn % 2 == 0):  # each goes first in half of the rounds
            start = time.perf_counter()
            tokens = ways[name](seeds)
            if turn >= 2:  # the first rounds warm up
                rates[name].append(tokens / (time.perf_counter() - start))
    for name, values in rates.items():
        print(
            f"{name:20} {statistics.median(values):9.0f} tokens/s (median of {len(values)}, "
            f"{min(values):.0f} to {max(values):.0f})"
        )
    ratio = [
        o / b for o, b in zip(rates["our generation"], rates["bare LLM.generate"], strict=True)
    ]
    print(
        f"ratio, round by round: median {statistics.median(ratio):.3f}, {min(ratio):.3f} to "
        f"{max(ratio):.3f}"
    )


if __name__ == "__main__":
    main()
