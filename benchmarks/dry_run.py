"""The needs of a paper experiment: `python benchmarks/dry_run.py paper_qwen3_4b`.

It takes no GPU and no weights. The experiment is composed and checked as in train.py, its policy is
built on the meta device (shapes, no memory) and counted, and the bytes of each GPU and the seconds
of an iteration follow from the counts. Nothing is measured: memory is the arithmetic of
benchmarks/memory.py, and time depends on the assumptions that are printed with it.
"""

import argparse
from dataclasses import dataclass
from typing import Any

import torch
from hydra import compose, initialize_config_dir
from omegaconf import DictConfig

from asym_lightning.config.callback_checks import check_monitors, evaluated
from asym_lightning.config.preflight import build, check_algorithm, check_numbers, settings_of
from asym_lightning.learner.optimizer import OptimizerSettings
from asym_lightning.learner.policy import PolicyModule
from asym_lightning.runtime import config_dir, setup
from asym_lightning.types import ConfigError
from memory import GB, SHAPES, Setting, Shape, parts

# policy.path -> the class of its config.json, the name of its shape, its context.
POLICIES = {
    "Qwen/Qwen3-4B": ("Qwen3Config", "Qwen3-4B", 40960),
    "Qwen/Qwen2.5-Math-1.5B": ("Qwen2Config", "Qwen2.5-Math-1.5B", 4096),
}
PROBLEMS = {"math500": 500, "aime24": 30, "aime25": 30, "amc23": 40, "olympiadbench": 675}


@dataclass(frozen=True)
class Assumed:
    """Assumptions about numbers that nobody published.

    Those with an H200 are from one policy of 1.7 billion parameters on one of these
    (docs/results/gpu.md).
    """

    gpu_gb: float = 80.0
    bandwidth: float = 3350.0  # GB/s of an H100's memory
    bandwidth_share: float = 0.5  # that decoding reaches
    tflops: float = 989.0  # of an H100 in bf16
    # Share that learning reaches, recomputed activations counted: measured on an H200.
    flops_share: float = 0.27
    # Least time of a layer in a decoding step: launching kernels without CUDA graphs, on an H200.
    layer_seconds: float = 0.0006
    response: int = 1000  # tokens of the mean response
    prompt: int = 150  # tokens of the mean prompt


def composed(experiment: str, gpus: int) -> DictConfig:
    """The experiment on this many GPUs, checked as far as that goes without them.

    Raises:
        ConfigError: there is no such file, or its policy's shape is not known here.
    """
    if not (config_dir() / "experiment" / f"{experiment}.yaml").is_file():
        raise ConfigError(f"{experiment}: there is no file conf/experiment/{experiment}.yaml")
    with initialize_config_dir(str(config_dir()), version_base="1.3"):
        config = compose("train", [f"experiment={experiment}", f"trainer.devices={gpus}"])
    if config.policy.path not in POLICIES:
        raise ConfigError(
            f"{experiment}: the shape of policy.path={config.policy.path} is not known here; "
            f"{', '.join(POLICIES)} are"
        )
    for check in (check_numbers, check_algorithm):
        check(config)
    check_monitors(config, evaluated(config, list(config.benchmarks)))
    return config


def meta_policy(config: DictConfig) -> tuple[PolicyModule, Shape]:
    """The experiment's policy on the meta device, as the trainer holds it, and its shape."""
    import transformers

    kind, name, context = POLICIES[config.policy.path]
    shape = SHAPES[name]
    settings = getattr(transformers, kind)(
        vocab_size=shape.vocabulary,
        hidden_size=shape.hidden,
        num_hidden_layers=shape.layers,
        num_attention_heads=shape.heads,
        num_key_value_heads=shape.kv_heads,
        head_dim=shape.head_dim,
        intermediate_size=shape.intermediate,
        tie_word_embeddings=shape.tied,
        max_position_embeddings=context,
    )
    with torch.device("meta"):
        model = transformers.AutoModelForCausalLM.from_config(
            settings, dtype=torch.float32, attn_implementation="sdpa"
        )
    optimizer = settings_of(OptimizerSettings, config.policy.optimizer, "policy.optimizer")
    policy = PolicyModule(
        model,
        build(config, "algo"),
        optimizer,
        config.rollout.temperature,
        1.0,
        config.policy.gradient_checkpointing,
    )
    return policy, shape


def count(policy: PolicyModule) -> int:
    """Parameters, a tied one once."""
    return sum(p.numel() for p in policy.parameters())


def held(policy: PolicyModule, ranks: int) -> int:
    """fp32 bytes of the weights that one rank keeps.

    Each tensor is divided along its first dimension, rounded up.
    """
    return sum(4 * -(-p.shape[0] // ranks) * p[0].numel() for p in policy.parameters())


def memory(
    config: DictConfig, policy: PolicyModule, shape: Shape, gpus: int, assumed: Assumed
) -> dict[str, float]:
    """GB on each GPU.

    ``cache`` is the part of the engine's share that is left for keys and values, ``at once`` the
    number of completions of the longest length that it holds.
    """
    ranks = 1 if config.trainer.strategy == "ddp" else gpus
    length = config.rollout.max_tokens + assumed.prompt
    found = parts(shape, Setting(ranks, config.policy.tokens_per_micro_batch, 1, length))
    weights = held(policy, ranks) / GB
    engine, share = 2 * count(policy) / GB, config.rollout.gpu_memory_utilization * assumed.gpu_gb
    trainer = 4 * weights + found["gathered"] + found["activations"]
    return {
        "weights": weights,
        "gradients": weights,
        "optimizer": 2 * weights,
        "gathered": found["gathered"],
        "activations": found["activations"],
        "engine": engine,
        "cache": share - engine,
        "all": trainer + share,
        "at once": (share - engine) / found["cache"],
    }


def rollout_seconds(
    config: DictConfig,
    parameters: int,
    shape: Shape,
    cache: float,
    completions: float,
    assumed: Assumed,
) -> float:
    """Seconds of one engine to sample this many completions.

    It samples all of them to the mean length, then the last one alone up to the longest.
    """
    token = 4 * shape.layers * shape.kv_heads * shape.head_dim / GB
    length = assumed.prompt + assumed.response
    together = min(completions, config.rollout.max_num_seqs, cache / (token * length))
    read = 2 * parameters / GB + together * token * (assumed.prompt + assumed.response / 2)
    alone = max(
        assumed.layer_seconds * shape.layers,
        2 * parameters / GB / (assumed.bandwidth * assumed.bandwidth_share),
    )
    step = max(
        assumed.layer_seconds * shape.layers, read / (assumed.bandwidth * assumed.bandwidth_share)
    )
    return (
        completions / together * assumed.response * step
        + (config.rollout.max_tokens - assumed.response) * alone
    )


def seconds(
    config: DictConfig,
    policy: PolicyModule,
    shape: Shape,
    cache: float,
    gpus: int,
    assumed: Assumed,
) -> dict[str, float]:
    """Seconds of one iteration by phase, of one evaluation, and hours of the run."""
    r, evaluation, parameters = config.rollout, config.callbacks.evaluation, count(policy)
    rollouts = r.prompts_per_iteration * r.group_size
    # A group's prompt is computed once.
    tokens = rollouts * assumed.response + r.prompts_per_iteration * assumed.prompt
    forward = 2 * parameters * tokens / (gpus * assumed.tflops * 1e12 * assumed.flops_share)
    generate = rollout_seconds(config, parameters, shape, cache, rollouts / gpus, assumed)
    score = forward if config.policy.prompts_per_mini_batch < r.prompts_per_iteration else 0.0
    learn = (4 if config.policy.gradient_checkpointing else 3) * forward
    answers = sum(
        PROBLEMS[name] * (evaluation.samples[name] + evaluation.greedy)
        for name in config.benchmarks
    )
    one = rollout_seconds(config, parameters, shape, cache, answers / gpus, assumed)
    times = config.trainer.max_epochs // evaluation.every + 1
    hours = (config.trainer.max_epochs * (generate + score + learn) + times * one) / 3600
    return {
        "generate": generate,
        "score": score,
        "learn": learn,
        "iteration": generate + score + learn,
        "evaluation": one,
        "hours": hours,
    }


def table(experiments: list[str], assumed: Assumed) -> str:
    """Two tables, memory and time, with a row per experiment and number of GPUs."""
    space = [
        "| experiment | GPUs | weights | gradients | optimizer | gathered | activations | engine "
        "| cache | all | at once |"
    ]
    time = [
        "| experiment | GPUs | generate | score | learn | iteration | evaluation | iterations | "
        "hours |"
    ]
    for rows in (space, time):
        rows.append("|---" * (rows[0].count("|") - 1) + "|")
    for name in experiments:
        for gpus in (4, 8):
            config = composed(name, gpus)
            policy, shape = meta_policy(config)
            use = memory(config, policy, shape, gpus, assumed)
            took = seconds(config, policy, shape, use["cache"], gpus, assumed)
            cells = [
                f"{value:.0f}" if key == "at once" else f"{value:.1f}" for key, value in use.items()
            ]
            space.append(f"| {name} ({count(policy):,}) | {gpus} | " + " | ".join(cells) + " |")
            *phases, hours = [f"{value:.0f}" for value in took.values()]
            time.append(
                f"| {name} | {gpus} | "
                + " | ".join([*phases, str(config.trainer.max_epochs), hours])
                + " |"
            )
    return "\n".join([*space, "", *time])


def main() -> None:
    setup()
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "experiments", nargs="*", default=["paper_qwen3_4b", "paper_qwen2_5_math_1_5b"]
    )
    options: dict[str, Any] = {name: type(value) for name, value in vars(Assumed()).items()}
    for name, kind in options.items():
        parser.add_argument(
            f"--{name.replace('_', '-')}", type=kind, default=getattr(Assumed(), name)
        )
    given = vars(parser.parse_args())
    assumed = Assumed(**{name: given[name] for name in options})
    try:
        print(table(given["experiments"], assumed))
    except ConfigError as error:
        parser.exit(2, f"error: {error}\n")
    print("\nassumed: " + ", ".join(f"{name} {value:g}" for name, value in vars(assumed).items()))


if __name__ == "__main__":
    main()
