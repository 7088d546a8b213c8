"""Ranges and choices of the keys that belong to no part: those of rollout, policy, trainer, run.

Each class names the section of the config that its fields are keys of. conf/ explains the keys.
"""

from typing import Annotated, Literal, get_type_hints

from omegaconf import DictConfig, OmegaConf
from pydantic import Field, TypeAdapter, ValidationError

from asym_lightning.checks import (
    STRICT,
    Count,
    Positive,
    PositiveShare,
    WholeNumber,
    refused,
)
from asym_lightning.types import FieldError


class EngineKeys:
    """Keys under ``rollout`` of training and of `evaluate.py`."""

    engine: Literal["vllm", "transformers"]
    max_tokens: Count
    max_num_seqs: Count
    kv_cache_gb: Count
    gpu_memory_utilization: PositiveShare
    enforce_eager: bool | None
    tensor_parallel_size: Count
    dtype: Literal["auto", "float32", "bfloat16", "float16"]
    stop: Annotated[
        list[int | str], Field(description="a list of token ids, or of texts of one token each")
    ]


class RolloutKeys(EngineKeys):
    """Keys under ``rollout`` of training."""

    placement: Literal["colocated", "servers"]
    group_size: Count
    prompts_per_iteration: Count
    temperature: Positive
    sleep: bool
    staleness: WholeNumber


class PolicyKeys:
    """Keys under ``policy``."""

    path: Annotated[str | None, Field(description="a folder or the id of a model on the hub")]
    trust_remote_code: bool
    prompts_per_mini_batch: Count
    tokens_per_micro_batch: Count
    old_logprobs: Literal["trainer", "engine"]
    share_prompts: bool
    logprob_gap_limit: Positive | None
    gradient_checkpointing: bool
    compile: bool


class TrainerKeys:
    """Keys under ``trainer`` that the run reads too."""

    # -1 is all GPUs, as a number or as text.
    devices: Annotated[
        Literal["auto", "-1", -1] | Count,
        Field(
            description="a number, or auto; CUDA_VISIBLE_DEVICES=2,3 chooses the GPUs",
        ),
    ]
    num_nodes: Count
    max_epochs: Count


class RunKeys:
    """Keys at the top of the config of a training run."""

    seed: WholeNumber


class DataKeys:
    """Keys under ``data`` of `evaluate.py`."""

    max_prompt_tokens: Count | None


class EvaluationKeys(RunKeys):
    """Keys at the top of the config of `evaluate.py`."""

    devices: Count
    problems_per_part: Count
    accelerator: Literal["auto", "cpu", "gpu", "cuda"]


def check_keys(config: DictConfig, sections: dict[str, type]) -> None:
    """Check sections of a config, each by the annotations of its class; "" is the top.

    Keys that the class does not name are left to others.

    Raises:
        ConfigError: a value is outside its type; the message names its key.
    """
    for section, kind in sections.items():
        part = config[section] if section else config
        for name, hint in get_type_hints(kind, include_extras=True).items():
            if name not in part:
                continue
            value = part[name]
            value = OmegaConf.to_object(value) if OmegaConf.is_config(value) else value
            try:
                TypeAdapter(hint, config=STRICT).validate_python(value)
            except ValidationError as error:
                path = error.errors(include_url=False)[0]["loc"]
                refusal = FieldError(refused(name, value, hint, path=path))
                raise (refusal.at(section) if section else refusal) from None
