"""Which rollout engine a config asks for."""

from importlib.util import find_spec

import torch
from omegaconf import DictConfig

from asym_lightning.rollout.base import RolloutEngine


def build_engine(
    kind: str, path: str, config: DictConfig, max_model_len: int, distributed: bool, dtype: str | None = None
) -> RolloutEngine:
    """The rollout engine that the config asks for, in the trainer's precision unless ``dtype`` is given; where vllm is not
    installed, transformers' with one line that says so."""
    if dtype is None:
        dtype = "float32" if str(config.trainer.precision).startswith("32") else "bfloat16"
    r = config.rollout
    if kind == "vllm" and find_spec("vllm") is None:
        print(
            "vllm is not installed here: completions come from transformers' generate (rollout=transformers), which is slower", flush=True
        )
        kind = "transformers"
    if kind == "transformers":
        from asym_lightning.rollout.transformers import TransformersEngine

        device = f"cuda:{torch.cuda.current_device()}" if torch.cuda.is_available() else "cpu"
        return TransformersEngine(path, dtype, r.max_num_seqs, device, config.policy.trust_remote_code)
    from asym_lightning.rollout.vllm import VLLMEngine

    return VLLMEngine(
        path,
        dtype,
        max_model_len,
        max_num_seqs=r.max_num_seqs,
        kv_cache_gb=r.kv_cache_gb,
        gpu_memory_utilization=r.gpu_memory_utilization,
        enforce_eager=r.enforce_eager,
        trust_remote_code=config.policy.trust_remote_code,
        distributed=distributed,
        seed=config.seed,
    )
